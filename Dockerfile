# Two images from one file:
#   docker build --target cpu  -t janus-forge:cpu .     corpora, scheduling, small runs
#   docker build --target cuda -t janus-forge:cuda .    training, scoring and tokenizing on GPUs
# The versions are those of requirements.lock. `docs/cluster.md` says which image runs where.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1
RUN pip install uv && useradd --create-home janus
WORKDIR /opt/janus-forge
COPY requirements.lock pyproject.toml README.md LICENSE ./

# The CPU build of torch brings none of the CUDA packages.
FROM base AS cpu
ARG TORCH_BACKEND=cpu
RUN grep -vE "^(torch|torchvision|triton|nvidia-.*|cuda-.*)==" requirements.lock > cpu.lock \
 && uv pip install --system --no-deps -r cpu.lock \
 && grep -E "^(torch|torchvision)==" requirements.lock > torch.lock \
 && uv pip install --system --no-deps --torch-backend ${TORCH_BACKEND} -r torch.lock
COPY . .
RUN uv pip install --system --no-deps .
USER janus
WORKDIR /home/janus

FROM base AS cuda
RUN uv pip install --system --no-deps -r requirements.lock
COPY . .
RUN uv pip install --system --no-deps .
USER janus
WORKDIR /home/janus
