#!/usr/bin/env bash
# What the tests need beside Python: other people's clients. As root on Debian or Ubuntu it installs what is missing;
# elsewhere it says in one line what to install. A test whose client is missing fails and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

postgres=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1 || true)
missing=()
need() { # PACKAGE PROGRAM...: one of the programs has to be there
    local package=$1 program
    shift
    for program in "$@"; do
        if PATH="$PATH:/usr/sbin:/sbin:$postgres" command -v "$program" >/dev/null; then return; fi
    done
    missing+=("$package")
}

need curl curl
need wget wget
need aria2 aria2c
need nodejs node nodejs
need npm npm
need chromium-headless-shell chromium-headless-shell chromium chromium-browser
need postgresql initdb # one with ICU; the tests start it themselves
need systemd systemd-analyze
need unzip unzip
need libarchive-tools bsdtar
# for the benchmarks
need nginx-light nginx
need wrk wrk

if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "holdfast: installing ${missing[*]}"
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then # else the package would start a server
        mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
    fi
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${missing[@]}" >/dev/null; then
        missing=()
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "holdfast: the tests of other clients need these packages, please install them: ${missing[*]}" >&2
fi

packages=tests/integration/node_modules
if command -v npm >/dev/null && [ ! "$packages/.installed" -nt tests/integration/package.json ]; then
    echo "holdfast: installing tus-js-client and configurable-http-proxy for the tests"
    if (cd tests/integration && npm install --no-package-lock --no-audit --no-fund --loglevel=error); then
        touch "$packages/.installed"
    else
        echo "holdfast: npm could not install tests/integration/package.json; its tests will fail" >&2
    fi
fi
