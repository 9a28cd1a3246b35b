"""Many runs: jobs go in, outcomes come out. It knows neither Optuna nor MLflow.

A :class:`~painvrl.engine.loop.Source` says what is to run: a study, an ablation, a confirmation, the
baselines. :func:`~painvrl.engine.loop.run_jobs` is the one loop for all of them, and an
:class:`~painvrl.engine.executor.Executor` computes the jobs in this process or in others.
"""
