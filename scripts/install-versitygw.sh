#!/bin/sh
# Installs versitygw, an S3 server over a folder, for the integration tests of object storage.
# Needs Go. The binary lands in GOBIN, else in GOPATH/bin; `pytest -m integration tests/storage` finds it there.
set -eu
go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
bin=$(go env GOBIN)
echo "${bin:-$(go env GOPATH)/bin}/versitygw"
