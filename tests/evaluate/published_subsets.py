"""Table B2 of the multitask paper: every task subset at 16 columns, Spearman on TUPAC16.

Tellez et al., Extending Unsupervised Neural Image Compression With Supervised Multitask Learning,
MIDL 2020, PMLR 121:770-783.
"""

from gigassl.evaluate.task_subsets import SubsetRun

_NAMES = {"L": "lymph", "M": "mitosis", "P": "prostate", "K": "colorectal"}
_ROWS = (
    ("K", 0.563), ("P", 0.515), ("M", 0.473), ("L", 0.498),
    ("PK", 0.584), ("MK", 0.573), ("MP", 0.557), ("LK", 0.613), ("LP", 0.548), ("LM", 0.520),
    ("MPK", 0.549), ("LPK", 0.592), ("LMK", 0.605), ("LMP", 0.505),
    ("LMPK", 0.569), ("LMPK", 0.594), ("LMPK", 0.597), ("LMPK", 0.591),
)  # fmt: skip

TABLE_B2 = tuple(
    SubsetRun(tasks=frozenset(_NAMES[letter] for letter in letters), score=score)
    for letters, score in _ROWS
)
