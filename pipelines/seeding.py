"""Independent random numbers for each purpose, all determined by one seed."""

import numpy as np

# Keys of independent random numbers: for the order, the augmentation, the members of groups and the composites.
ORDER, AUGMENTATION, MEMBERS, COMPOSITES = range(4)


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the random generator for a seed and a key of non-negative integers, such as epoch and purpose."""
    # NumPy takes only non-negative seeds; this maps negative and non-negative seeds to distinct ones
    seed = 2 * seed if seed >= 0 else -2 * seed - 1
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
