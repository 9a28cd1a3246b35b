"""What a proposal is unsure of, and who decides it: an option, a person, or the proposal itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from painvrl.core.errors import ConfigError, listing

NONE = "none"
"""What stands for no column."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A column (or file), how much speaks for it, and what does, in words."""

    name: str
    score: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which column (or file) is it?

    Attributes:
        option: of the command line, which answers it.
        what: is asked for, in words.
        file: that has the columns.
        candidates: the best one first.
        known: everything that may be answered.
        optional: whether there may be none.
    """

    option: str
    what: str
    file: str
    candidates: Sequence[Candidate]
    known: Sequence[str]
    optional: bool = False

    @property
    def sure(self) -> bool:
        """One candidate is likely, and clearly more so than the next one."""
        scores = [candidate.score for candidate in self.candidates] or [1.0 if self.optional else 0.0]
        return scores[0] >= 0.5 and (len(scores) == 1 or scores[0] - scores[1] >= 0.3)

    def lines(self) -> list[str]:
        """The candidates, a line each."""
        return [f"{one.name} ({one.why})" for one in self.candidates]


@dataclass(kw_only=True)
class Answers:
    """Answers questions, and says how.

    Attributes:
        given: answers by option.
        ask: asks a person; ``None`` where there is no one.
        takes_proposals: whether the best candidate is taken where no one was asked.
        said: a line for each decision.
        unanswered: questions that no one has answered; their best candidate stands in.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    ask: Callable[[Question], str] | None = None
    takes_proposals: bool = False
    said: list[str] = field(default_factory=list)
    unanswered: list[Question] = field(default_factory=list)

    def decide(self, question: Question) -> Candidate | None:
        """The answer; ``None`` where there is no such column.

        Raises:
            ConfigError: an answer names no column of the file, or nothing can be proposed.
        """
        best = question.candidates[0] if question.candidates else None
        if question.option in self.given:
            found = self._named(question, self.given[question.option], f"{question.option} says so")
        elif question.sure or (best is None and question.optional):
            found = best
        elif self.ask is not None:
            found = self._named(question, self.ask(question), "you said so")
        elif best is None:
            self.unanswered.append(question)
            self.settle()
            return None
        else:
            found = best
            if self.takes_proposals:
                others = listing(question.lines()[1:]) or "no other"
                self.said.append(f"a guess, which {question.option} corrects; else: {others}")
            else:
                self.unanswered.append(question)
        if found is not None:
            self.said.append(f"{question.what}: {found.name} of {question.file}, {found.why}")
        return found

    def settle(self) -> None:
        """Refuse to go on where a question is open.

        Raises:
            ConfigError: it names the options that answer them all.
        """
        if not self.unanswered:
            return
        asked = "; ".join(
            f"{one.option} for {one.what} in {one.file} ({listing(one.lines() or one.known)})"
            for one in self.unanswered
        )
        proposed = all(one.candidates for one in self.unanswered)
        advice = ", or --yes, which takes the first of each" if proposed else ""
        columns = " and ".join(f"the {one.what}" for one in self.unanswered)
        raise ConfigError(f"{columns} cannot be told from the tables; give {asked}{advice}", key="init")

    @staticmethod
    def _named(question: Question, name: str, why: str) -> Candidate | None:
        if name == NONE and question.optional and NONE not in question.known:
            return None
        if name not in question.known:
            rule = f"{question.file} has no such column; it has {listing(question.known)}"
            raise ConfigError(rule, key=question.option, value=name)
        return Candidate(name=name, score=1.0, why=why)
