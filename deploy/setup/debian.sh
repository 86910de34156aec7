#!/bin/sh
# Installs the Debian packages that tierflow needs on this machine, saying so first.
# Usage: debian.sh run|test       TIERFLOW_NO_APT=1 forbids it: what is missing is then only named.
set -eu

run="python3-venv python3-bpfcc linux-headers-amd64 iproute2 nftables conntrack kmod"
test="containerd runc containernetworking-plugins mmdebstrap curl openssl gcc libc6-dev tcpdump openjdk-17-jre-headless maven etcd-server chromium"

case "${1:-}" in
run) wanted=$run ;;
test) wanted="$run $test" ;;
*) echo "usage: $0 run|test" >&2; exit 2 ;;
esac

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
# A tool that came another way (a JDK by hand, say) is as good as Debian's.
present() {
	case "$1" in
	gcc) command -v gcc >/dev/null ;;
	openjdk-17-jre-headless) command -v java >/dev/null ;;
	maven) command -v mvn >/dev/null ;;
	python3-venv) "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null ;;
	*) installed "$1" ;;
	esac
}

missing=
for package in $wanted; do
	present "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "tierflow: no apt-get here; these Debian packages or their like are missing:$missing" >&2
	exit 0
fi
if [ "${TIERFLOW_NO_APT:-}" = 1 ]; then
	echo "tierflow: TIERFLOW_NO_APT=1, so not installed:$missing" >&2
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "tierflow: not root, so not installed:$missing (apt-get install$missing)" >&2
	exit 0
fi
echo "tierflow: installing Debian packages:$missing"
echo "tierflow: (TIERFLOW_NO_APT=1 forbids this)"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of names
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	rm -f "$log"
	echo "tierflow: apt-get could not install:$missing" >&2
	exit 1
fi
rm -f "$log"
