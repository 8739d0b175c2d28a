"""Installs the sibling folders kernels, pipelines, benchmarks and configs inside the `xkd` package (see xkd/__init__.py)."""

from pathlib import Path

from setuptools import find_packages, setup

SIBLINGS = ("kernels", "pipelines", "benchmarks", "configs")


def packages():
    """Every package to install, with each sibling folder's packages renamed to `xkd.SIBLING...`."""
    found = ["xkd", *(f"xkd.{name}" for name in find_packages("xkd"))]
    for sibling in SIBLINGS:
        found += [f"xkd.{sibling}", *(f"xkd.{sibling}.{name}" for name in find_packages(sibling))]
    return found


def version():
    line = next(line for line in Path("xkd/__init__.py").read_text().splitlines() if line.startswith("__version__"))
    return line.split('"')[1]


setup(
    name="xkd-train",
    version=version(),
    description="A high-throughput data and training pipeline for audio-visual self-supervised learning (XKD)",
    long_description=Path("README.md").read_text() if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=packages(),
    package_dir={f"xkd.{sibling}": sibling for sibling in SIBLINGS},
    package_data={"xkd.configs": ["**/*.yaml", "launch/*"], "xkd.benchmarks": ["results/*.csv"]},
    entry_points={"console_scripts": ["xkd = xkd.cli:main"]},
    install_requires=[
        "torch==2.11.*",
        "deepspeed==0.19.8",
        "timm>=1.0.20,<2",
        "webdataset>=1.0,<2",
        "av>=18,<19",
        "numpy>=1.26,<3",
        "scikit-learn>=1.5,<2",
        "threadpoolctl>=3.1",
        "pyyaml>=6",
        "pydantic>=2.8,<3",
        "safetensors>=0.8",  # writes without holding up other threads
        "fsspec>=2024.6",
        "aiohttp>=3.9",
        "tqdm>=4.66",
        "tensorboard>=2.17",
        "matplotlib>=3.9",
        "psutil>=5.9",
    ],
    extras_require={
        # CUDA 13 is what the package index serves for torch 2.11; the same wheels run on machines without a GPU.
        "cuda13": ["nvidia-dali-cuda130==2.4.*", "torchaudio==2.11.*", "torchvision==0.26.*", "triton==3.6.*"],
        # For drivers that cannot run CUDA 13: install torch, torchaudio and torchvision for CUDA 12 first (README, "Install").
        "cuda12": ["nvidia-dali-cuda120==2.4.*", "torchaudio==2.11.*", "torchvision==0.26.*", "triton==3.6.*"],
        "s3": ["s3fs>=2024.6"],  # shards at s3://
        "wandb": ["wandb>=0.19"],  # log.wandb
        # Other loaders that `xkd bench loader` measures beside ours; torchcodec needs the system's FFmpeg libraries, 4 to 8.
        "bench": ["torchcodec==0.11.*", "opencv-python-headless>=4.10"],
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "build>=1.2",
            "setuptools>=70",
            "wheel",
            "wandb>=0.19",
        ],
    },
)
