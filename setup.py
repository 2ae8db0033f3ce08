"""Packaging of genrebeam. Tool settings live in pyproject.toml; exact tested versions in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="genrebeam",
    version="0.1.0",
    description="Tag an entire music catalog with genres: an Apache Beam pipeline with a trained CNN",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: End Users/Desktop",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",  # developed and tested there; Windows lacks fcntl, WSL 2 has it
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
    python_requires=">=3.10,<3.14",  # TensorFlow 2.21 has wheels for 3.10 to 3.13
    packages=find_packages(include=["genrebeam*"]),  # follows the links in genrebeam/ to the folders at the top
    package_data={
        "genrebeam": ["py.typed"],
        "genrebeam.model": ["pretrained/*/*"],
        "genrebeam.pipelines": ["data/*"],
        "genrebeam.app": ["static/*", "templates/*"],
    },
    install_requires=[
        "apache-beam>=2.77,<3",
        "tensorflow>=2.21,<2.22",  # one minor version: the bundle's .keras file and Keras move together
        # The last release of tensorflow-io is built for TensorFlow 2.16 and has no wheel for 3.13. Training uses its
        # pure-TensorFlow functions (SpecAugment masks) where it is present; tagging never imports it.
        "tensorflow-io==0.37.1; python_version < '3.13' and platform_machine == 'x86_64'",
        "ai-edge-litert>=2.3,<3",  # runs the network on processors; TensorFlow trains it, exports it, runs it on GPUs
        "librosa>=0.11,<0.12",
        "numpy>=2.1,<2.5",  # Beam 2.77 wants numpy below 2.5; float32 FFTs need 2.0
        "pyarrow>=18,<26",  # Beam 2.77 wants pyarrow below 26
        "mutagen>=1.47,<2",
        "soundfile>=0.13",  # its wheels carry libsndfile 1.2.2 with MP3
        "soxr>=0.5",
        "av>=14,<19",  # PyAV: FFmpeg for what libsndfile cannot read
        "google-crc32c>=1.5",  # checksums of TFRecords in C; Beam refuses to write them without
        "click>=8.1",
        "rich>=13",
        "pathspec>=0.12",  # --exclude and .genrebeamignore
        "jinja2>=3.1",  # the page of `genrebeam report`
    ],
    extras_require={
        "app": ["fastapi>=0.115,<1", "uvicorn>=0.30", "python-multipart>=0.0.18", "matplotlib>=3.8"],
        "train": ["matplotlib>=3.8", "scikit-learn>=1.4", "tensorboard>=2.19"],
        "test": [
            "pytest>=8",
            "setuptools>=77",  # builds the package that tests/test_package.py installs
            "pytest-xdist>=3",
            "hypothesis>=6",
            "pytaglib>=3; platform_system == 'Linux' and platform_machine == 'x86_64'",  # a third reader of tags
            "click-man>=0.5",  # `make man`
            "ruff",
            "mypy",
            "pandas>=2.2",
            "duckdb>=1",
            "beets>=2.14",  # the plugin in deploy/beets is tested in it
            "psutil>=5.9",
            "playwright>=1.49",  # drives Debian's chromium; its own browsers are not fetched
            "moto[s3]>=5.2",  # an S3 on this machine. Not moto[server], which brings 100 MB for other services
            "flask",  # what of it moto's server needs for S3
            "flask-cors",
            "google-cloud-storage>=2.18.2",
        ],
        "gcp": ["apache-beam[gcp]"],  # google-cloud-storage among them
        "aws": ["apache-beam[aws]", "boto3>=1.36"],  # conditional puts; Beam would take older ones
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],  # CUDA's libraries as wheels; the driver is the machine's
        "hadoop": ["apache-beam[hadoop]"],
    },
    entry_points={"console_scripts": ["genrebeam=genrebeam.pipelines.cli:main"]},
)
