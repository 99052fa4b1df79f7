#!/usr/bin/env bash
# Checks the units: systemd reads them without a word and finds them hardened, and their command lines run as they stand,
# with the environment of the examples and a folder of credentials, and stop when asked to. Without systemd-analyze
# the first half is left out, and said so. UNITS names those to check (default: both); the programs are built here.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
running=
cleanup() {
	[ -z "$running" ] || kill -9 "$running" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
fail() {
	echo "check.sh: $*" >&2
	exit 1
}

# setting UNIT NAME prints the one value of a setting.
setting() { sed -n "s/^$2=//p" "deploy/systemd/vsphere-preemption-$1.service"; }

for program in ${UNITS:-worker standalone}; do
	unit=vsphere-preemption-$program.service
	root=$work/$program
	mkdir -p "$root/opt" "$root/credentials" "$root/state"
	go build -o "$root/opt/$program" "./cmd/$program"

	if command -v systemd-analyze >/dev/null; then
		sed "s|/opt/vsphere-preemption|$root/opt|" "deploy/systemd/$unit" >"$root/$unit"
		said=$(systemd-analyze verify --man=no "$root/$unit" 2>&1) || fail "$unit: $said"
		[ -z "$said" ] || fail "$unit: $said"
		# 0 is the best, 100 the worst
		systemd-analyze security --offline=true --threshold=20 --no-pager "$root/$unit" >"$root/security" 2>&1 ||
			fail "$unit is not hardened: $(tail -n 3 "$root/security")"
		tail -n 1 "$root/security"
	else
		echo "$unit: not verified, for there is no systemd-analyze"
	fi

	# The command line, with the specifiers as systemd would fill them in.
	printf 'user@example.com\n' >"$root/credentials/username"
	printf 'secret\n' >"$root/credentials/password"
	cp deploy/base/preemption.yaml "$root/preemption.yaml"
	port=$((20000 + RANDOM % 10000))
	command=$(setting "$program" ExecStart | sed "s|/opt/vsphere-preemption|$root/opt|; s|%S/vsphere-preemption|$root/state|")
	[ "$(setting "$program" Environment)" = VCENTER_SECRET_PATH=%d ] || fail "$unit does not pass the credentials"
	(
		set -a
		VCENTER_SECRET_PATH=$root/credentials
		# shellcheck disable=SC1090
		. <(sed "s|/etc/vsphere-preemption|$root|; s|^HTTP_ADDR=.*|HTTP_ADDR=127.0.0.1:$port|; s|example.com|example.invalid|" \
			"deploy/systemd/vsphere-preemption-$program.env.example")
		# shellcheck disable=SC2086
		exec $command
	) >"$root/log" 2>&1 &
	running=$!
	alive=
	for _ in $(seq 300); do
		if curl -fsS -o /dev/null --noproxy '*' "http://127.0.0.1:$port/healthz" 2>/dev/null; then
			alive=yes
			break
		fi
		kill -0 "$running" 2>/dev/null || break
		sleep 0.2
	done
	[ -n "$alive" ] || fail "$command does not answer for its health: $(tail -n 20 "$root/log")"
	kill -TERM "$running"
	code=0
	wait "$running" || code=$?
	running=
	case " 0 $(setting "$program" SuccessExitStatus) " in
	*" $code "*) ;;
	*) fail "$command ended with $code: $(tail -n 20 "$root/log")" ;;
	esac
	if [ "$program" = standalone ] && [ -z "$(ls "$root/state")" ]; then fail "$command kept nothing in its folder"; fi

	# What no restart cures is not restarted.
	code=0
	env -i "PREEMPTION_CONFIG=$root/missing.yaml" VCENTER_URL=https://vcenter.example.invalid $command >"$root/log" 2>&1 || code=$?
	[ "$code" = "$(setting "$program" RestartPreventExitStatus)" ] || fail "$command without its file ended with $code: $(cat "$root/log")"
	echo "$unit: its command ran, answered, and stopped"
done
