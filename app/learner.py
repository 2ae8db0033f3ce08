"""A child process of the application that learns words: scikit-learn and its memory stay out of the server.

`python -m genrebeam.app.learner DIR BUNDLE` learns as `genrebeam learn` does and prints what came of it as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from genrebeam.features.errors import GenrebeamError, how_to_install
from genrebeam.pipelines.jobs.learn import LearnOptions, learn_words


def main() -> None:
    """Print a JSON object: what was learned, or {"error": one sentence}."""
    results, output = sys.argv[1:]
    try:
        report = learn_words(LearnOptions(results=results, output=Path(output)))
    except GenrebeamError as error:
        print(json.dumps({"error": str(error)}))
        return
    except ImportError as error:
        print(json.dumps({"error": f"learning needs the package {error.name}: {how_to_install('train')}"}))
        return
    plain = {field.name: getattr(report, field.name) for field in dataclasses.fields(report) if field.name != "bundle"}
    plain["figures"] = [dataclasses.asdict(one) for one in report.figures]
    plain["promise"] = report.promise and dataclasses.asdict(report.promise)
    print(json.dumps(plain))


if __name__ == "__main__":
    main()
