"""What the controls put in the place of the transferred features and of the pseudo-labels: arrays in, arrays out."""

import numpy as np
from sklearn.decomposition import PCA


def generator(seed: int, stream: str) -> np.random.Generator:
    """The random numbers of a named stream: streams of one seed, and one stream of two seeds, are independent."""
    return np.random.default_rng([seed, *stream.encode()])


def permuted(labels: np.ndarray, seed: int) -> np.ndarray:
    """The pseudo-labels (n,) in a random order: how often each occurs stays, which image has it does not."""
    return generator(seed, "permuted-labels").permutation(labels)


def uniform_labels(n: int, k: int, seed: int) -> np.ndarray:
    """n labels (n,) int32, each of 0 to k - 1 with the same probability, whatever the image."""
    return generator(seed, "random-labels").integers(k, size=n, dtype=np.int32)


def random_relu(train: np.ndarray, test: np.ndarray, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A ReLU layer that nobody trained, for rows (n, D) and (m, D): (n, width) and (m, width) float64, the same layer.

    Weights N(0, 2 / D), biases 0 (He et al. 2015, "Delving deep into rectifiers": the variance that ReLU layers keep).
    """
    dimension = train.shape[1]
    weights = generator(seed, "random-relu").normal(scale=(2 / dimension) ** 0.5, size=(dimension, width))
    one, other = (np.maximum(np.asarray(rows, np.float64) @ weights, 0) for rows in (train, test))
    return one, other


def pca_dimension(n: int, dimension: int, wanted: int) -> int:
    """How many principal components n rows of that dimension have for the `wanted`: n rows about their mean span at
    most n - 1 directions."""
    return min(wanted, dimension, n - 1)


def principal_components(train: np.ndarray, test: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, D) and (m, D) along the first principal components of `train`, about its mean: float64, `wanted`
    columns, or `pca_dimension` where that is fewer."""
    train = np.asarray(train, np.float64)
    fitted = PCA(pca_dimension(len(train), train.shape[1], wanted), svd_solver="full").fit(train)
    return fitted.transform(train), fitted.transform(np.asarray(test, np.float64))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) divided by their Euclidean lengths: float64; a row of zeros stays."""
    rows = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)
