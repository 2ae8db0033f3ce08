"""Words learned over embeddings: a linear head of one-vs-rest logistic regressions, with cross-validation.

No group (artist and album) is in both training and test data. Arrays in, arrays out; where the words come from is
pipelines/jobs/learn.py. scikit-learn does the fitting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrebeam.model.calibration import ScoredTrack, fit
from genrebeam.model.embedding import Head
from genrebeam.model.splits import position
from genrebeam.model.voting import (
    MIN_CONFIDENCE,
    UNCALIBRATED,
    UNKNOWN,
    Calibration,
    as_answers,
    chunk_scores,
    on_the_line,
)

FOLDS = 5
# Inverse strengths of the L2 penalty on standardised components: what 700 to 1,600 clips chose, and their neighbours.
STRENGTHS = (0.003, 0.01, 0.03, 0.1)
MOST_ROWS = 8_000  # of one regression: more rows move its weights less than the choice of the strength does
FEWEST_CALIBRATION = 200  # tracks: of fewer, a temperature is mostly chance, and regressions are calibrated as they are
MOST_CALIBRATION = 4_000  # tracks; six numbers and one offset for each word are fitted
NEVER = -20.0  # the logit of "none of them" where nothing tells what that is
# Area under the ROC curve on unheard artists. Words of AllMusic that nobody would tell by ear (comedy, religious) have
# 0.58 to 0.68; a word with 0.90 is found in half of its tracks at a precision of 0.8.
HEARD, HEARD_WELL = 0.70, 0.90
_Z = 1.96  # of a 95 % interval


@dataclasses.dataclass(frozen=True)
class LearnConfig:
    """Requirements that a word must meet.

    Attributes:
        min_tracks, min_groups: words with fewer are reported and not learned.
        precision: at which each word's threshold and recall are reported.
        keep_all: learn words too that cannot be heard.

    Raises:
        ValueError: a value out of range, naming it.
    """

    min_tracks: int = 8
    min_groups: int = 3
    precision: float = 0.8
    keep_all: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("min_tracks", 2), ("min_groups", 2)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        if not 0 < self.precision < 1:
            raise ValueError(f"precision must lie between 0 and 1, not {self.precision}")


@dataclasses.dataclass(frozen=True)
class WordFigures:
    """How well a word is heard in tracks of groups that were not learned from.

    Attributes:
        tracks, groups: that have the word.
        verdict: "heard well", "heard", "cannot be heard" or "too few".
        auc: area under the ROC curve; 0.5 is chance. None where it was not tried.
        recall: share of its tracks for which it is the first answer.
        precision: share of the tracks with it as the first answer that have it; None where it never is.
        precision_low, precision_high: 95 % interval of that (Wilson 1927).
        threshold: lowest score from which on the precision is `LearnConfig.precision`; None if there is none.
        recall_there: share of its tracks that reach the threshold.
    """

    word: str
    tracks: int
    groups: int
    verdict: str = "too few"
    auc: float | None = None
    recall: float | None = None
    precision: float | None = None
    precision_low: float | None = None
    precision_high: float | None = None
    threshold: float | None = None
    recall_there: float | None = None


@dataclasses.dataclass(frozen=True)
class Promise:
    """What to expect of tracks by artists that were not learned from.

    Attributes:
        tracks: judged, all of which have a learned word.
        right: share whose first answer is one of their words. right_low, right_high: 95 % interval.
        answered: share with a confidence of at least 0.5 that are not "none of these": what `apply` writes by default.
        right_of_answered: share of those whose first answer is one of their words; None where nothing is answered.
    """

    tracks: int
    right: float
    right_low: float
    right_high: float
    answered: float
    right_of_answered: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """Words, and everything that is known about how well they are heard.

    Attributes:
        labels: the words, in alphabetical order.
        figures: of all words that there were, those that were left out too, the most frequent first.
        scores: float32 [tracks, labels + 1] for the tracks that were learned from: what is said of each by a head that
            has not seen its group, calibrated. NaN for tracks without a word.
        strength: the inverse strength of the penalty.
        alike: pairs of labels that are hardly told apart, with the area under the ROC curve between the two.
    """

    labels: tuple[str, ...]
    head: Head
    calibration: Calibration
    figures: tuple[WordFigures, ...]
    promise: Promise
    scores: NDArray[np.float32]
    strength: float
    alike: tuple[tuple[str, str, float], ...]


class NothingToLearn(ValueError):
    """No two words that can be learned; the message says why, `figures` what was counted."""

    def __init__(self, message: str, figures: Sequence[WordFigures] = ()) -> None:
        super().__init__(message)
        self.figures = tuple(figures)


def learn(
    embeddings: NDArray[np.int8], words: Sequence[Sequence[str]], groups: Sequence[str], config: LearnConfig
) -> Learned:
    """Learn words from the tracks that have some.

    Args:
        embeddings: int8 [tracks, size], as result rows have them; a head for components of scale 1 comes out, see
            `rescaled`.
        words: of each track; none for a track of which nothing is known. All of a track's words fit.
        groups: what may not be on both sides: artist and album.

    Raises:
        NothingToLearn: fewer than two words have enough tracks and groups, or can be heard.
    """
    counts, in_groups = _counted(words, groups)
    figures = {word: WordFigures(word, counts[word], len(in_groups[word])) for word in counts}
    tried = sorted(w for w in counts if counts[w] >= config.min_tracks and len(in_groups[w]) >= config.min_groups)
    if len(tried) < 2:
        raise NothingToLearn(
            f"{len(tried)} of {len(counts)} words have at least {config.min_tracks} tracks by {config.min_groups} "
            "artists or albums; two are needed",
            _in_order(figures),
        )
    known = np.array([bool(some) for some in words])
    rows = np.flatnonzero(known)
    in_group = [group for group, has_word in zip(groups, known.tolist(), strict=True) if has_word]
    data = _Standardised.of(embeddings[rows])
    claims = _claims([some for some in words if some], tried)
    fold = folds(in_group, claims, config.seed)
    strength = _best_strength(data, claims, fold, config.seed)
    out_of_fold = _out_of_fold(data, claims, fold, strength, config.seed)
    aucs = [_auc(out_of_fold[:, i], claims[:, i]) for i in range(len(tried))]
    kept = [i for i in range(len(tried)) if config.keep_all or aucs[i] >= HEARD]
    for i, word in enumerate(tried):
        figures[word] = dataclasses.replace(figures[word], verdict=_verdict(aucs[i]), auc=round(aucs[i], 4))
    if len(kept) < 2:
        raise NothingToLearn(
            f"{len(kept)} of {len(tried)} words can be heard on artists that were not learned from; two are needed",
            _in_order(figures),
        )
    labels, claims, out_of_fold = tuple(tried[i] for i in kept), claims[:, kept], out_of_fold[:, kept]
    # A track whose words were all left out is music of none of the words that are there.
    none: NDArray[np.bool_] = np.logical_not(claims.any(axis=1))
    none_groups = {group for group, is_none in zip(in_group, none.tolist(), strict=True) if is_none}
    knows_none = none.sum() >= config.min_tracks and len(none_groups) >= config.min_groups
    column = none[:, np.newaxis]
    nothing = np.full((len(rows), 1), NEVER, np.float32)
    out_of_fold = np.concatenate(
        [out_of_fold, _out_of_fold(data, column, fold, strength, config.seed) if knows_none else nothing], axis=1
    )
    head = _final(data, np.concatenate([claims, column], axis=1), strength, config.seed, knows_none=bool(knows_none))
    scores = np.full((len(words), len(labels) + 1), np.nan, np.float32)
    answers, unknown = np.empty(claims.shape, np.float32), np.empty(len(rows), np.float32)
    # Even and odd folds judge each other: nobody's own words may tune the numbers that he is promised.
    for side in (fold % 2 == 0, fold % 2 == 1):
        judge = _calibrated(out_of_fold[~side], claims[~side], config.seed)
        scores[rows[side]] = chunk_scores(out_of_fold[side], judge)
        answers[side] = as_answers(scores[rows[side], :-1], judge.further)
        unknown[side] = on_the_line(scores[rows[side], -1], judge.unknown_threshold)
    for i, label in enumerate(labels):
        figures[label] = _judged(figures[label], answers, claims, i, config.precision)
    return Learned(
        labels=labels,
        head=head,
        calibration=_calibrated(out_of_fold, claims, config.seed),
        figures=tuple(_in_order(figures)),
        promise=_promise(answers, unknown, claims, in_group, config.seed),
        scores=scores,
        strength=strength,
        alike=_alike(labels, out_of_fold, claims),
    )


def rescaled(head: Head, scale: float) -> Head:
    """Convert a head over int8 embeddings into one over the components themselves (`EmbeddingSpace.restored`)."""
    return Head((head.kernel / scale).astype(np.float32), head.bias)


def folds(groups: Sequence[str], claims: NDArray[np.bool_], seed: int, count: int = FOLDS) -> NDArray[np.int64]:
    """A fold for each track, int64 [tracks], no group in two; each word's groups are dealt out evenly.

    Args:
        claims: bool [tracks, words].
    """
    names = sorted(set(groups))
    index = {name: i for i, name in enumerate(names)}
    of_track = np.array([index[group] for group in groups])
    has = np.zeros((len(names), claims.shape[1]), bool)
    np.logical_or.at(has, of_track, claims)
    order = np.argsort([position(name, f"fold{seed}") for name in names], kind="stable")
    fold = np.full(len(names), -1)
    dealt = 0
    for word in np.argsort(has.sum(axis=0), kind="stable"):
        for group in order[has[order, word] & (fold[order] < 0)]:
            fold[group] = dealt % count
            dealt += 1
    for group in order[fold[order] < 0]:
        fold[group] = dealt % count
        dealt += 1
    return fold[of_track]


def contradicted(learned: Learned, words: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """How much speaks against the words of each track, float32 [tracks], NaN where nothing is known.

    The log odds of the best word that it does not have, less those of the best it has, by a head that has not seen it.
    Above 0 another word is the more probable one.
    """
    likely = np.clip(learned.scores[:, :-1], 1e-6, 1 - 1e-6)
    odds = np.log(likely) - np.log1p(-likely)
    claims = _claims(words, learned.labels)
    own = np.where(claims, odds, -np.inf).max(axis=1)
    other = np.where(claims, -np.inf, odds).max(axis=1)
    is_known = claims.any(axis=1) & np.isfinite(odds[:, 0])
    return np.where(is_known, other - np.where(is_known, own, 0), np.nan).astype(np.float32)


def worth_asking(embeddings: NDArray[np.int8], groups: Sequence[str], count: int, seed: int = 0) -> list[int]:
    """Tracks that would teach most: one near the middle of each of `count` clusters, no two of one group.

    Args:
        embeddings: int8 [tracks, size] of tracks that have no word.

    Returns:
        Rows, of the largest cluster first; fewer where there are fewer groups.
    """
    from sklearn.cluster import MiniBatchKMeans

    if not len(embeddings):
        return []
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(len(embeddings), min(len(embeddings), 20_000), replace=False))
    vectors = embeddings[some].astype(np.float32)
    clusters = min(count, len({groups[row] for row in some}), len(some))
    fitted = MiniBatchKMeans(clusters, random_state=seed, n_init=3, batch_size=2048).fit(vectors)
    distances = fitted.transform(vectors)
    sizes = np.bincount(fitted.labels_, minlength=clusters)
    found: list[int] = []
    seen: set[str] = set()
    for cluster in np.argsort(-sizes, kind="stable"):
        for at in np.argsort(distances[:, cluster], kind="stable"):
            row = int(some[at])
            if groups[row] not in seen:
                seen.add(groups[row])
                found.append(row)
                break
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Standardised:
    """Embeddings centred by component, divided by one scale: the mean standard deviation is 1, without whitening."""

    values: NDArray[np.float32]
    mean: NDArray[np.float32]
    spread: np.float32

    @classmethod
    def of(cls, embeddings: NDArray[np.int8]) -> _Standardised:
        values = embeddings.astype(np.float32)
        mean = values.mean(axis=0)
        spread = np.float32(max(float(values.std(axis=0).mean()), 1e-3))
        values -= mean
        values /= spread
        return cls(values, mean, spread)


def _counted(words: Sequence[Sequence[str]], groups: Sequence[str]) -> tuple[dict[str, int], dict[str, set[str]]]:
    counts: dict[str, int] = {}
    in_groups: dict[str, set[str]] = {}
    for some, group in zip(words, groups, strict=True):
        for word in set(some):
            counts[word] = counts.get(word, 0) + 1
            in_groups.setdefault(word, set()).add(group)
    return counts, in_groups


def _in_order(figures: dict[str, WordFigures]) -> list[WordFigures]:
    return sorted(figures.values(), key=lambda one: (-one.tracks, one.word))


def _claims(words: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    index = {label: i for i, label in enumerate(labels)}
    claims = np.zeros((len(words), len(labels)), bool)
    for row, some in enumerate(words):
        for word in some:
            if word in index:
                claims[row, index[word]] = True
    return claims


def _regression(
    values: NDArray[np.float32], claimed: NDArray[np.bool_], strength: float, seed: int
) -> tuple[NDArray[np.float32], float]:
    """Weights and bias of one word. Of many rows a sample that weighs as much as all of them."""
    from sklearn.linear_model import LogisticRegression

    if claimed.all() or not claimed.any():
        return np.zeros(values.shape[1], np.float32), -NEVER if claimed.all() else NEVER
    rng = np.random.default_rng(seed)
    rows, weights = [], []
    for side in (np.flatnonzero(claimed), np.flatnonzero(~claimed)):
        taken = side if len(side) <= MOST_ROWS // 2 else np.sort(rng.choice(side, MOST_ROWS // 2, replace=False))
        rows.append(taken)
        weights.append(np.full(len(taken), len(side) / len(taken)))
    at = np.concatenate(rows)
    # Weights that sum to more than there are rows would loosen the penalty.
    weight = np.concatenate(weights)
    weight *= len(at) / weight.sum()
    model = LogisticRegression(C=strength, tol=1e-3, max_iter=200)
    model.fit(values[at], claimed[at], sample_weight=weight)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def _regressions(
    values: NDArray[np.float32], claims: NDArray[np.bool_], strength: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    each = [_regression(values, claims[:, i], strength, seed) for i in range(claims.shape[1])]
    return np.stack([weights for weights, _ in each], axis=1), np.array([bias for _, bias in each], np.float32)


def _out_of_fold(
    data: _Standardised, claims: NDArray[np.bool_], fold: NDArray[np.int64], strength: float, seed: int
) -> NDArray[np.float32]:
    """Logits float32 [tracks, words], each by regressions that have not seen the track's group."""
    logits = np.empty(claims.shape, np.float32)
    for one in np.unique(fold):
        out = fold == one
        weights, bias = _regressions(data.values[~out], claims[~out], strength, seed)
        logits[out] = data.values[out] @ weights + bias
    return logits


def _best_strength(data: _Standardised, claims: NDArray[np.bool_], fold: NDArray[np.int64], seed: int) -> float:
    """The strength with the likeliest answers on a fold, of at most 4,000 tracks: one for all words.

    It is chosen on folds that are judged later; four values of one number over thousands of answers have no room to
    learn those by heart (a test holds whole artists out).
    """
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(len(claims), min(len(claims), 4_000), replace=False))
    values, claimed, fold = data.values[some], claims[some], fold[some]
    losses = []
    for strength in STRENGTHS:
        logits = _out_of_fold(dataclasses.replace(data, values=values), claimed, fold, strength, seed)
        # Cross-entropy in its stable form.
        losses.append(float((np.logaddexp(0, logits) - np.where(claimed, logits, 0)).mean()))
    return STRENGTHS[int(np.argmin(losses))]


def _final(data: _Standardised, claims: NDArray[np.bool_], strength: float, seed: int, *, knows_none: bool) -> Head:
    weights, bias = _regressions(data.values, claims, strength, seed)
    if not knows_none:
        weights[:, -1], bias[-1] = 0, NEVER
    kernel = weights / data.spread
    return Head(kernel.astype(np.float32), (bias - data.mean @ kernel).astype(np.float32))


def _calibrated(logits: NDArray[np.float32], claims: NDArray[np.bool_], seed: int) -> Calibration:
    if len(logits) < FEWEST_CALIBRATION:
        return UNCALIBRATED
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(len(logits), min(len(logits), MOST_CALIBRATION), replace=False))
    heard = [
        ScoredTrack("", "", tuple(np.flatnonzero(claims[row]).tolist()), logits[row][np.newaxis])
        for row in some.tolist()
    ]
    return fit(heard, claims.shape[1])


def _auc(logits: NDArray[np.float32], claimed: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann & Whitney 1947); 0.5 where there is nothing to tell apart."""
    from scipy.stats import rankdata

    yes, no = int(claimed.sum()), int((~claimed).sum())
    if not yes or not no:
        return 0.5
    return float((rankdata(logits)[claimed].sum() - yes * (yes + 1) / 2) / (yes * no))


def _verdict(auc: float) -> str:
    return "heard well" if auc >= HEARD_WELL else "heard" if auc >= HEARD else "cannot be heard"


def _judged(
    figures: WordFigures, answers: NDArray[np.float32], claims: NDArray[np.bool_], word: int, precision: float
) -> WordFigures:
    claimed, first = claims[:, word], answers.argmax(axis=1) == word
    low, high = wilson(int((first & claimed).sum()), int(first.sum()))
    order = np.argsort(-answers[:, word], kind="stable")
    found = np.cumsum(claimed[order])
    enough = np.flatnonzero(found >= precision * np.arange(1, len(order) + 1))
    # Of a single track nothing can be said: a threshold stands on five answers at least.
    last = int(enough[-1]) if len(enough) and enough[-1] >= 4 else None
    return dataclasses.replace(
        figures,
        recall=round(float(first[claimed].mean()), 4),
        precision=round(float(claimed[first].mean()), 4) if first.any() else None,
        precision_low=low,
        precision_high=high,
        threshold=None if last is None else round(float(answers[order[last], word]), 4),
        recall_there=None if last is None else round(float(found[last] / claimed.sum()), 4),
    )


def wilson(right: int, of: int) -> tuple[float | None, float | None]:
    """95 % interval of a share (Wilson 1927); nothing of nothing."""
    if not of:
        return None, None
    share, z2 = right / of, _Z**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * float(np.sqrt(share * (1 - share) / of + z2 / (4 * of * of)))
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def _promise(
    answers: NDArray[np.float32],
    unknown: NDArray[np.float32],
    claims: NDArray[np.bool_],
    groups: Sequence[str],
    seed: int,
) -> Promise:
    judged = np.flatnonzero(claims.any(axis=1))
    best = answers[judged].argmax(axis=1)
    right = claims[judged, best]
    answered = (answers[judged, best] >= MIN_CONFIDENCE) & (unknown[judged] <= UNKNOWN)
    # Tracks of one artist are right or wrong together, so artists are drawn and not tracks.
    names, of_track = np.unique(np.array(groups)[judged], return_inverse=True)
    sums, sizes = np.bincount(of_track, right), np.bincount(of_track)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(names), (1000, len(names))) if len(names) <= 5000 else None
    if draws is None:
        low, high = wilson(int(right.sum()), len(right))
    else:
        shares = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
        low, high = (round(float(x), 4) for x in np.quantile(shares, [0.025, 0.975]))
    return Promise(
        tracks=len(judged),
        right=round(float(right.mean()), 4),
        right_low=low or 0.0,
        right_high=high or 0.0,
        answered=round(float(answered.mean()), 4),
        right_of_answered=round(float(right[answered].mean()), 4) if answered.any() else None,
    )


def _alike(
    labels: tuple[str, ...], logits: NDArray[np.float32], claims: NDArray[np.bool_]
) -> tuple[tuple[str, str, float], ...]:
    """Pairs of words that the difference of their logits hardly tells apart, among tracks that have one of them."""
    found = []
    for one in range(len(labels)):
        for other in range(one + 1, len(labels)):
            either = claims[:, one] != claims[:, other]
            if claims[either, one].sum() < 5 or claims[either, other].sum() < 5:
                continue
            auc = _auc(logits[either, one] - logits[either, other], claims[either, one])
            if auc < 0.65:
                found.append((labels[one], labels[other], round(auc, 4)))
    return tuple(sorted(found, key=lambda pair: pair[2]))
