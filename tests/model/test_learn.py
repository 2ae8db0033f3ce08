"""Words learned over embeddings: what is promised is true, what cannot be heard is left out."""

import numpy as np
import pytest

from genrebeam.model.decision import score_stored
from genrebeam.model.embedding import EmbeddingSpace
from genrebeam.model.learn import (
    LearnConfig,
    NothingToLearn,
    contradicted,
    folds,
    learn,
    rescaled,
    wilson,
    worth_asking,
)
from genrebeam.model.similar import similarity

SIZE = 16


def catalog(words=4, artists=12, per_artist=4, *, seed=0, of_word=14.0, of_artist=10.0, noise=12.0, first_artist=0):
    """Embeddings in clouds: a centre for each word, an offset for each artist, noise; every artist has one word."""
    centres = np.random.default_rng(99).normal(0, of_word, (words, SIZE))
    rng = np.random.default_rng(seed)
    embeddings, claims, groups = [], [], []
    for word in range(words):
        for artist in range(artists):
            offset = rng.normal(0, of_artist, SIZE)
            for _ in range(per_artist):
                embeddings.append(centres[word] + offset + rng.normal(0, noise, SIZE))
                claims.append((f"word {word}",))
                groups.append(f"artist {word} {artist + first_artist}")
    return np.clip(np.rint(embeddings), -127, 127).astype(np.int8), claims, groups


def right(learned, embeddings, claims):
    scores = score_stored(embeddings, EmbeddingSpace("t", SIZE, 1.0), learned.head, learned.calibration)
    best = scores[:, :-1].argmax(axis=1)
    return np.mean([learned.labels[i] in words for i, words in zip(best, claims, strict=True)])


@pytest.mark.parametrize("of_word", [8.0, 14.0])
def test_what_is_promised_holds_for_artists_that_were_held_out_altogether(of_word):
    learned = learn(*catalog(artists=15, of_word=of_word), LearnConfig())
    unheard, claims, _ = catalog(artists=60, seed=7, of_word=of_word, first_artist=100)
    actual = right(learned, unheard, claims)
    promise = learned.promise
    assert promise.right_low <= promise.right <= promise.right_high
    assert promise.right_low - 0.03 <= actual <= promise.right_high + 0.03
    assert actual < 0.999  # the task is not so easy that any promise would hold


def test_artists_are_not_taken_for_words():
    # Nothing but the artist can be heard: by tracks the words would be told apart, on other artists they are not.
    sound = {"of_word": 0.0, "of_artist": 30.0, "noise": 3.0}
    with pytest.raises(NothingToLearn, match="can be heard") as error:
        learn(*catalog(artists=40, **sound), LearnConfig())
    assert {one.verdict for one in error.value.figures} == {"cannot be heard"}
    embeddings, claims, groups = catalog(artists=3, per_artist=12, **sound)
    learned = learn(embeddings, claims, groups, LearnConfig(keep_all=True))
    assert learned.promise.right < 0.5
    assert right(learned, embeddings, claims) > 0.9  # what a judgement without groups would have said


def test_a_word_that_cannot_be_heard_is_left_out_and_its_tracks_are_none_of_the_words():
    embeddings, claims, groups = catalog(words=3, artists=12)
    rng = np.random.default_rng(1)
    mixed = rng.permutation(embeddings)[: len(embeddings) // 3]  # sounds like everything
    embeddings = np.concatenate([embeddings, mixed])
    claims = [*claims, *[("comedy",)] * len(mixed)]
    groups = [*groups, *(f"comedian {i // 4}" for i in range(len(mixed)))]
    learned = learn(embeddings, claims, groups, LearnConfig())
    assert learned.labels == ("word 0", "word 1", "word 2")
    verdicts = {one.word: one.verdict for one in learned.figures}
    assert verdicts["comedy"] == "cannot be heard"
    assert {verdicts[label] for label in learned.labels} <= {"heard", "heard well"}
    assert "comedy" in learn(embeddings, claims, groups, LearnConfig(keep_all=True)).labels


def test_music_of_none_of_the_words_is_said_to_be_none():
    embeddings, claims, groups = catalog(words=5, of_word=22.0)
    claims = [(f"rare {i // 4}",) if words == ("word 4",) else words for i, words in enumerate(claims)]
    learned = learn(embeddings, claims, groups, LearnConfig())
    assert learned.labels == ("word 0", "word 1", "word 2", "word 3")
    others, them, _ = catalog(words=5, of_word=22.0, seed=5, first_artist=50)
    scores = score_stored(others, EmbeddingSpace("t", SIZE, 1.0), learned.head, learned.calibration)
    is_other = np.array([words == ("word 4",) for words in them])
    line = learned.calibration.unknown_threshold
    assert (scores[is_other, -1] > line).mean() > 0.7
    assert (scores[~is_other, -1] > line).mean() < 0.3


def test_several_words_of_a_track_all_fit():
    embeddings, claims, groups = catalog()
    both = [(*words, "mellow") if words[0] in ("word 0", "word 1") else words for words in claims]
    learned = learn(embeddings, both, groups, LearnConfig())
    mellow = learned.labels.index("mellow")
    scores = learned.scores[:, mellow]
    has = np.array(["mellow" in words for words in both])
    assert np.median(scores[has]) > 0.8 > 0.2 > np.median(scores[~has])


@pytest.mark.parametrize(
    ("words", "groups", "message"),
    [
        ([()] * 40, [f"a{i}" for i in range(40)], "0 of 0 words"),
        ([("one",)] * 40, [f"a{i}" for i in range(40)], "1 of 1 words"),
        ([("one",), ("two",)] * 20, ["the same artist"] * 40, "0 of 2 words"),
        ([(f"word {i}",) for i in range(40)], [f"a{i}" for i in range(40)], "0 of 40 words"),
    ],
)
def test_nothing_to_learn_is_said_with_a_reason(words, groups, message):
    embeddings, *_ = catalog(words=2, artists=5, per_artist=4)
    with pytest.raises(NothingToLearn, match=message):
        learn(embeddings, words, groups, LearnConfig())


def test_words_with_too_few_tracks_or_artists_are_counted_and_not_learned():
    embeddings, claims, groups = catalog(words=4)
    claims = [("rare",) if i < 5 else words for i, words in enumerate(claims)]
    groups = ["one artist" if words == ("word 3",) else group for words, group in zip(claims, groups, strict=True)]
    learned = learn(embeddings, claims, groups, LearnConfig())
    figures = {one.word: one for one in learned.figures}
    assert learned.labels == ("word 0", "word 1", "word 2")
    assert (figures["rare"].tracks, figures["rare"].verdict, figures["rare"].auc) == (5, "too few", None)
    assert (figures["word 3"].groups, figures["word 3"].verdict) == (1, "too few")


def test_swapped_words_are_found():
    embeddings, claims, groups = catalog(words=6, artists=20)
    rng = np.random.default_rng(0)
    is_swapped = rng.random(len(claims)) < 0.1
    swapped = [
        (f"word {(int(words[0][-1]) + rng.integers(1, 6)) % 6}",) if swap else words
        for words, swap in zip(claims, is_swapped, strict=True)
    ]
    against = contradicted(learn(embeddings, swapped, groups, LearnConfig()), swapped)
    worst = np.argsort(-against)[: is_swapped.sum()]
    assert is_swapped[worst].mean() > 0.6
    assert np.median(against[is_swapped]) > 0 > np.median(against[~is_swapped])


def test_nothing_speaks_against_a_track_without_words():
    embeddings, claims, groups = catalog()
    claims[3] = ()
    assert np.isnan(contradicted(learn(embeddings, claims, groups, LearnConfig()), claims)[3])


def test_words_that_sound_the_same_are_named_as_a_pair():
    embeddings, claims, groups = catalog(words=3, artists=16)
    halves = [
        ("rap",) if w == ("word 0",) and int(g.split()[-1]) % 2 else w for w, g in zip(claims, groups, strict=True)
    ]
    learned = learn(embeddings, halves, groups, LearnConfig())
    assert [pair[:2] for pair in learned.alike] == [("rap", "word 0")]


def test_the_same_seed_gives_the_same_words():
    one, other = (learn(*catalog(), LearnConfig()) for _ in range(2))
    np.testing.assert_array_equal(one.head.kernel, other.head.kernel)
    assert one.calibration == other.calibration and one.figures == other.figures


def test_no_group_is_in_two_folds_and_no_fold_lacks_a_word():
    _, claims, groups = catalog(words=3, artists=5)
    matrix = np.array([[f"word {i}" in words for i in range(3)] for words in claims])
    fold = folds(groups, matrix, seed=0)
    for group in set(groups):
        assert len({f for f, g in zip(fold, groups, strict=True) if g == group}) == 1
    assert all(matrix[fold == f].any(axis=0).all() for f in range(5))


def test_a_head_over_bytes_is_one_over_components():
    learned = learn(*catalog(), LearnConfig())
    embeddings, *_ = catalog(seed=3)
    space = EmbeddingSpace("t", SIZE, 0.3)
    np.testing.assert_allclose(
        rescaled(learned.head, 0.3).logits(space.restored(embeddings)),
        learned.head.logits(embeddings.astype(np.float32)),
        atol=1e-3,
    )


@pytest.mark.parametrize(("right_", "of", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 5, 0.0, 0.4345)])
def test_the_interval_of_a_share_is_wilsons(right_, of, low, high):
    assert wilson(right_, of) == (low, high)
    assert wilson(0, 0) == (None, None)


def test_what_is_worth_asking_is_spread_over_the_sound_and_over_artists():
    embeddings, claims, groups = catalog(words=6, of_word=40.0, artists=4)
    asked = worth_asking(embeddings, groups, 6)
    assert len({claims[row] for row in asked}) >= 5  # two clouds may lie near each other
    assert len({groups[row] for row in asked}) == 6
    assert len(worth_asking(embeddings, ["one album"] * len(groups), 20)) == 1
    assert worth_asking(embeddings[:0], [], 20) == []


@pytest.mark.parametrize("bad", [{"min_tracks": 1}, {"min_groups": 0}, {"precision": 1.0}])
def test_settings_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        LearnConfig(**bad)


def test_similar_tracks_share_a_cloud_and_gain_does_not_matter():
    embeddings, claims, _ = catalog(words=4, of_word=30.0)
    alike = similarity(embeddings, [0])
    assert alike[0] == pytest.approx(1.0, abs=1e-5)
    nearest = np.argsort(-alike)[1:11]
    assert np.mean([claims[row] == claims[0] for row in nearest]) > 0.9
    between = similarity(embeddings, [0, len(embeddings) - 1])
    assert between[0] == pytest.approx(between[-1], abs=1e-5)
    with pytest.raises(ValueError, match="nothing"):
        similarity(embeddings, [])
