"""The JSON of the HTTP API, as OpenAPI documents it. Shares and scores are 0 to 1, times are seconds."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Row(BaseModel):
    """A track in a list."""

    track_id: str
    title: str
    artist: str
    album: str
    genre: str = Field(description="the genre that counts: a person's word, else the model's")
    heard: str = Field(description="the model's genre")
    confidence: float | None
    file_genre: str = Field(description="genres in the file, joined by '; '")
    duration_s: float | None
    corrected: bool
    differs: bool = Field(description="the file has a genre, and not the one that was heard")
    none_of_these: bool


class Listed(BaseModel):
    """A stretch of a list."""

    total: int
    offset: int
    position: int | None = Field(description="where `around` is in the whole list")
    tracks: list[Row]


class Score(BaseModel):
    genre: str
    score: float


class Said(BaseModel):
    """A person's correction."""

    genre: str
    by: str
    at: str


class Doubt(BaseModel):
    """A tag that `genrebeam learn` contradicts."""

    words: list[str]
    score: float
    heard: str
    heard_score: float


class Details(Row):
    """Everything about a track but its timeline."""

    uri: str
    container: str | None
    codec: str | None
    undecoded_s: float | None
    model_id: str | None
    correction: Said | None
    doubt: Doubt | None


class Timeline(BaseModel):
    """Stored scores over time; empty where the track was not heard chunk by chunk."""

    labels: list[str]
    starts_s: list[float]
    scores: list[list[float]] = Field(description="of each chunk, in the order of the labels")
    top: list[Score]


class Drawn(BaseModel):
    """A spectrogram: uint8 [columns][bands] in base64, from the lowest band up."""

    columns: int
    bands: int
    levels: str
    duration_s: float


class Audio(BaseModel):
    container: str
    codec: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    undecoded_s: float | None


class HeardFile(BaseModel):
    """What was heard in a file: the attributes of genrebeam.Heard."""

    name: str
    genre: str
    confidence: float
    unknown: float | None
    top: list[Score]
    scores: list[Score] = Field(description="the mean of each genre over the timeline, best first")
    labels: list[str]
    timeline: list[list[float]]
    times_s: list[float]
    audio: Audio
    genre_before: list[str]
    embedding: list[int] | None
    picture: Drawn | None = None


class Genre(BaseModel):
    """A genre or several, joined by '; '; null withdraws what was said."""

    genre: str | None = Field(max_length=200)


class Several(BaseModel):
    """Corrections of several tracks: each its own, or one genre for all tracks that a list has."""

    tracks: dict[str, str | None] = Field(default_factory=dict)
    folder: str | None = Field(default=None, description="all tracks whose track_id begins so")
    genre: str | None = Field(default=None, max_length=200)


class Before(BaseModel):
    """What people had said of each track before, null where nothing; send it back to undo."""

    before: dict[str, str | None]


class Counted(BaseModel):
    """A genre that counts, as the results have it and as people spell it, and how many tracks have it."""

    genre: str
    name: str
    tracks: int


class Words(BaseModel):
    """What can be said of tracks: the genres of the model and people's own, and what the catalog has."""

    words: list[str]
    genres: list[Counted]
