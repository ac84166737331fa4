#!/bin/sh
# Installs Prism, Beam's portable engine for one machine, at the version of the installed apache-beam.
# Needs Go. The binary lands in GOBIN, else in GOPATH/bin; `pytest -m integration tests/pipelines` finds it there.
set -eu
version=$("${PYTHON:-python}" -c 'from importlib.metadata import version; print(version("apache-beam"))')
GOFLAGS=-mod=mod go install "github.com/apache/beam/sdks/v2/go/cmd/prism@v$version"
bin=$(go env GOBIN)
echo "${bin:-$(go env GOPATH)/bin}/prism"
