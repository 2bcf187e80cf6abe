# An image of marl-study, for one machine and for the pods of clusters/kuberay.yaml. From the project's folder:
#   docker build -t marl-study .                             # for GPUs; trains on processors, too
#   docker build -t marl-study:cpu --build-arg TORCH=cpu .   # for processors alone
# docs/install.md says how to run it.
FROM python:3.11-slim-bookworm

# Compilers for steps that are compiled where they train, git for the commit, wget for the probes of KubeRay.
# hadolint ignore=DL3008  # Debian keeps no earlier versions
RUN apt-get -qq update \
 && apt-get -qq install --yes --no-install-recommends build-essential git make wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 ray

USER 1000
WORKDIR /home/ray/marl-study
ENV PATH=/home/ray/venv/bin:$PATH VIRTUAL_ENV=/home/ray/venv UV_NO_CACHE=1 UV_SYSTEM_CERTS=1 PIP_NO_CACHE_DIR=1
# What is installed changes seldom, and is most of the image.
COPY --chown=1000 Makefile requirements.lock pyproject.toml ./
RUN make PYTHON=python VENV=$VIRTUAL_ENV $VIRTUAL_ENV/bin/uv
# The CPU builds of PyTorch have the versions of the lock, but other hashes. All else is checked by hash.
ARG TORCH=cuda
RUN if [ "$TORCH" = cpu ]; then \
      grep -oE '^torch(audio)?==[^ ]+' requirements.lock > ../torch.txt \
      && uv pip install --quiet --torch-backend cpu --requirements ../torch.txt; \
    fi \
 && uv pip install --quiet --compile-bytecode --constraints requirements.lock --requirements pyproject.toml --extra all
COPY --chown=1000 . .
# A volume for studies that is mounted there belongs to the user, too.
RUN uv pip install --quiet --no-deps --no-build-isolation --editable . && mkdir runs
CMD ["marl-study", "--help"]
