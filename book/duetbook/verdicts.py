"""What became of each claim of the paper: its verdict, by the section that makes it.

The words of a claim, and the reasons for its verdict, stand in the map from the paper to the code;
a test holds map and numbers together. Chapter 12.
"""

from __future__ import annotations

# Section: verdict: numbers of claims, as in the map (C1, C2, ...).
VERDICTS: dict[str, dict[str, tuple[int, ...]]] = {
    "Abstract": {
        "Does not hold": (1,),
        "Holds in part": (2, 3, 4),
        "Undecided": (5,),
    },
    "Section 1": {
        "Taken over": (6, 10),
        "Holds in part": (7, 8, 9, 11, 14),
        "Definition": (12, 13),
        "Does not hold": (15, 19),
        "Undecided": (16,),
        "Holds": (17,),
        "Not judged": (18,),
    },
    "Section 2": {
        "Not judged": (20,),
    },
    "Section 3.1": {
        "Does not hold": (21,),
    },
    "Section 3.2": {
        "Not tested": (22,),
    },
    "Section 3.3.1": {
        "Definition": (23, 25),
        "Holds in part": (24,),
        "Holds": (26,),
        "Undecided": (27,),
    },
    "Section 3.3.2": {
        "Definition": (28, 29, 30, 31),
        "Holds": (32,),
        "Holds in part": (33,),
    },
    "Section 3.3.3": {
        "Does not hold": (36,),
        "Not tested": (35,),
        "Definition": (37,),
        "Undecided": (34, 38),
    },
    "Section 4.1": {
        "Definition": (39, 41, 42, 43, 44, 45),
        "Taken over": (40,),
    },
    "Section 4.2": {
        "Holds in part": (46, 47, 48, 51, 56),
        "Undecided": (49, 53, 55),
        "Does not hold": (50,),
        "Not tested": (52,),
        "Taken over": (54,),
    },
    "Section 4.3": {
        "Taken over": (57,),
        "Holds in part": (58, 60, 62, 65),
        "Does not hold": (59, 63, 64),
        "Undecided": (61,),
    },
    "Section 5": {
        "Definition": (66,),
        "Undecided": (67,),
    },
    "Appendix A.1": {
        "Holds in part": (68, 70),
        "Undecided": (69,),
    },
    "Appendix A.2": {
        "Holds": (71,),
    },
    "Appendix A.3": {
        "Taken over": (72,),
    },
    "Appendix A.4": {
        "Not judged": (73,),
    },
}
WORDS = {
    "Holds": "in all that we ran",
    "Holds in part": "under the conditions that the map names",
    "Does not hold": "against our runs, our sums, or the paper's own tables",
    "Undecided": "our runs cannot tell",
    "Not tested": "no run of ours asks",
    "Definition": "says how DUET is made",
    "Taken over": "a premise or a setting",
    "Not judged": "a matter of the literature, or of practice",
}


def counts() -> dict[str, int]:
    """How many claims have each verdict, in the order of `WORDS`."""
    of = {word: 0 for word in WORDS}
    for by_verdict in VERDICTS.values():
        for verdict, claims in by_verdict.items():
            of[verdict] += len(claims)
    return of
