"""What the user's own tables are, as a data section and a split that fit: ``painvrl init``.

Names and contents of columns are evidence; whoever asks for a proposal decides where they leave a doubt.
"""

from __future__ import annotations

from painvrl.data.proposal.propose import Proposal as Proposal
from painvrl.data.proposal.propose import propose as propose
from painvrl.data.proposal.questions import Answers as Answers
from painvrl.data.proposal.questions import Candidate as Candidate
from painvrl.data.proposal.questions import Question as Question
