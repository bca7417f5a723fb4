"""Lists whose items are unlike each other."""

import numpy as np

from ..turns import pause

CHOSEN = 25  # items of a list, before others have their turn


def diversify(scores: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    """Indices of k items, relevant and unlike each other: maximal marginal relevance (Carbonell and Goldstein 1998).

    scores: (n,), scaled to 0..1 here. vectors: (n, width) of length 1. diversity: the weight of unlikeness, 0 to 1.
    """
    spread = float(scores.max() - scores.min()) if len(scores) else 0.0
    worth = (scores - scores.min()) / spread if spread else np.zeros(len(scores))
    nearest, chosen = np.zeros(len(scores)), list[int]()
    for n in range(min(k, len(scores))):
        if n % CHOSEN == CHOSEN - 1:
            pause()
        value = (1 - diversity) * worth - diversity * nearest
        value[chosen] = -np.inf
        best = int(value.argmax())
        nearest = np.maximum(nearest, vectors @ vectors[best]) if chosen else vectors @ vectors[best]
        chosen.append(best)
    return chosen
