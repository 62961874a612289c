#!/bin/bash
# Does a bundle give the source's verdicts on CPUs other than this one?
#
#   tests/other_cpus/check.sh BUNDLE [arm64|x86:MODEL]...      (default: arm64 x86:Haswell x86:Nehalem)
#
# arm64 is a Debian userland in a folder, run by qemu as a Cortex-A76 (as in a Jetson Orin or a Raspberry Pi 5,
# or nearly). Haswell has AVX2 and no VNNI: there the u8 x s8 products of int8 saturate. Nehalem has SSE alone.
# On each CPU, for every backend that loads there:
#   * sspcab-edge verify replays a thinned parity pack (thin_bundle.py) on each artifact. fp32 has to pass;
#     a lower precision passes its gate or is refused.
#   * sspcab-run judges a picture with nothing pinned. It has to take the first artifact that passed, with a
#     warning about each before it that was refused.
# Exit 0 if all of this holds. Emulation says nothing of speed: a convolution is hundreds of times slower.
#
# Needs root (chroot), Debian or Ubuntu on x86-64 with qemu-user-static and debootstrap (installed if absent),
# a network for the userland and its wheels, 1.5 GB below TMPDIR, and a Python with this package and pip.
# Nothing is mounted and no binfmt handler is registered; the folder is removed at the end, whatever happens.
#
# Environment: PYTHON (default python3), INPUTS of the pack (default 6), INPUTS_ARM64 (default 4),
# ARTIFACTS, in the order to try (default: int8, fp16, fp32 of onnx, then of openvino, as the bundle has them),
# RESULTS (a folder for the JSON of every replay; default none).
set -euo pipefail

say() { echo "other CPUs: $*" >&2; }
die() { say "$*"; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
[ $# -ge 1 ] || die "usage: check.sh BUNDLE [arm64|x86:MODEL]..."
bundle=$1
shift
cpus=("$@")
[ ${#cpus[@]} -gt 0 ] || cpus=(arm64 x86:Haswell x86:Nehalem)
python=$(command -v "${PYTHON:-python3}") || die "no ${PYTHON:-python3} here"
backends=(onnxruntime openvino)

[ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m): the check emulates from x86_64"
missing=()
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
command -v debootstrap >/dev/null || missing+=(debootstrap)
[ "$(id -u)" = 0 ] || die "needs root (chroot)${missing:+, and the Debian packages ${missing[*]}}: run it as root"
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || die "needs ${missing[*]}, and there is no apt-get to install them"
  say "installing ${missing[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      "${missing[@]}"; } >&2 || die "cannot install ${missing[*]}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
export ORT_DISABLE_TELEMETRY=1 PIP_DISABLE_PIP_VERSION_CHECK=1
results=${RESULTS:-$work/results}
mkdir -p "$results"

# An arm64 userland: unpacked, not configured (its own maintainer scripts would take minutes under emulation).
# Its wheels are chosen and unpacked by this machine's pip.
userland() {
  local into=$1 deb version
  say "making an arm64 userland"
  debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,libgomp1,libstdc++6 \
    bookworm "$into" >"$work/debootstrap.log" 2>&1 || { tail -n 5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
  for deb in "$into"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$into"; done
  rm -rf "$into/debootstrap" "$into"/var/cache/apt/archives/*.deb
  cp "$(command -v qemu-aarch64-static)" "$into/qemu"
  version=$(readlink "$into/usr/bin/python3")
  local platforms=(--platform manylinux_2_34_aarch64 --platform manylinux_2_31_aarch64
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64)
  local package
  for package in "numpy opencv-python-headless click msgspec onnxruntime" openvino; do
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --no-warn-conflicts --upgrade --target "$into/site" "${platforms[@]}" \
      --python-version "${version#python}" --implementation cp --only-binary=:all: $package >&2 ||
      say "no arm64 wheels for $package"
  done
  mkdir -p "$into/code" "$into/tmp"
  cp -r "$root/sspcab_edge" "$root/runtime/sspcab_runtime" "$into/code/"
  cp -r "$work/thin-arm64" "$into/thin-arm64"
}

# on CPU SECONDS WORD...: python WORD... on that CPU, for so long at most. Each CPU has a cache of its own: emulated or not, /proc/cpuinfo
# names this machine's CPU, so that an attestation of one would hold for all.
on() {
  local cpu=$1 limit=(timeout --kill-after=5 "$2")
  shift 2
  case $cpu in
    arm64)
      # With neither /proc nor /sys: ONNX Runtime's cpuinfo crashes under qemu 7.2 where it finds both.
      env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONPATH=/code:/site XDG_CACHE_HOME=/cache ORT_DISABLE_TELEMETRY=1 \
        "${limit[@]}" chroot "$work/arm64" /qemu -cpu cortex-a76 /usr/bin/python3 "$@"
      ;;
    here)
      XDG_CACHE_HOME=$work/cache-here "${limit[@]}" "$python" "$@"
      ;;
    *)
      XDG_CACHE_HOME=$work/cache-$cpu "${limit[@]}" qemu-x86_64-static -cpu "${cpu#x86:}" "$python" "$@"
      ;;
  esac
}

# judge CPU VERIFIED JUDGED HEARD STATUS SECONDS: what verify and run gave against what is asked of them; a line for each artifact.
judge() {
  "$python" - "$@" <<'PYTHON'
import json, sys
cpu, verified, judged, heard, run_status, seconds = sys.argv[1:]
problems = []
with open(verified, encoding="utf-8") as file:
    checks = json.load(file)["artifacts"]
for check in checks:
    name, parity = f"{check['artifact']} on {check['backend']}", check["parity"]
    figures = "" if parity is None else (
        f"{parity['pictures']} inputs, {parity['flips']} flips, score diff {parity['max_abs_score_diff']:.3g}, "
        f"map diff {parity['max_abs_map_diff'] or 0:.3g}, ")
    print(f"{cpu:<12} {name:<28} {figures}{check['status']}{': ' + check['reason'] if check['reason'] else ''}")
    if check["status"] == "broken" or (check["precision"] == "fp32" and check["status"] != "passed"):
        problems.append(f"{name} is {check['status']}")
first = checks[0]["backend"]
order = [check for check in checks if check["backend"] == first]
refused = [check["artifact"] for check in order[: [c["status"] for c in order].index("passed")]] if any(
    check["status"] == "passed" for check in order) else None
with open(heard, encoding="utf-8") as file:
    said = [line for line in file if "used instead" in line]
with open(judged, encoding="utf-8") as file:
    verdicts = [json.loads(line) for line in file]
if run_status != "0" or len(verdicts) != 1:
    problems.append(f"sspcab-run gave {len(verdicts)} verdicts and exit status {run_status}")
elif refused is not None:
    used = order[len(refused)]["artifact"]
    replaced = f", after {', '.join(refused)} refused" if refused else ""
    print(f"{cpu:<12} sspcab-run used {used}{replaced}: score {verdicts[0]['score']:.6f}, {seconds} s in all")
    for name in refused:
        if not any(name in line and used in line for line in said):
            problems.append(f"sspcab-run said nothing of {name} being replaced by {used}")
    if not refused and said:
        problems.append("sspcab-run replaced what had passed")
for problem in problems:
    print(f"{cpu:<12} WRONG: {problem}")
sys.exit(1 if problems else 0)
PYTHON
}

check() {
  local cpu=$1 thin=$2 files=$results/${1//:/-} started=$SECONDS backend status found=() artifact
  for backend in "${backends[@]}"; do
    if ! grep -q "\"target\": \"${backend/onnxruntime/onnx}\"" "$3"; then continue; fi
    status=0
    on "$cpu" 60 -m sspcab_runtime.engines.probe "$backend" >"$files.probe" 2>"$files.err" || status=$?
    if [ $status = 0 ] && grep -q '"error":null' "$files.probe"; then
      found+=(--backend "$backend")
    else
      case $status in
        0) say "$cpu: $backend does not load here: $(cat "$files.probe")" ;;
        124 | 137) say "$cpu: $backend does not load here: it hung for 60 s" ;;
        *) say "$cpu: $backend does not load here (exit status $status): $(tail -n 1 "$files.err")" ;;
      esac
    fi
  done
  [ ${#found[@]} -gt 0 ] || { say "$cpu: no backend loads"; return 1; }
  status=0
  on "$cpu" 3600 -m sspcab_edge.cli verify "$thin" "${found[@]}" --json >"$files.json" 2>"$files.err" || status=$?
  case $status in 0 | 3) ;; *) tail -n 5 "$files.err" >&2; say "$cpu: verify stopped with $status"; return 1 ;; esac
  status=0
  on "$cpu" 3600 -m sspcab_runtime.cli "$thin" "$thin/parity/000.png" --json >"$files.run" 2>"$files.err" || status=$?
  judge "$cpu" "$files.json" "$files.run" "$files.err" "$status" $((SECONDS - started))
}

names=()
if [ -n "${ARTIFACTS:-}" ]; then
  read -r -a names <<<"$ARTIFACTS"
else
  for target in onnx openvino; do
    for precision in int8 fp16 fp32; do
      if "$python" -c 'import sys; from sspcab_edge.bundle import Bundle
sys.exit(sys.argv[2] not in [a.name for a in Bundle.open(sys.argv[1]).manifest.artifacts])' "$bundle" "$target-$precision"; then
        names+=("$target-$precision")
      fi
    done
  done
fi
options=()
for name in "${names[@]}"; do options+=(--artifact "$name"); done
"$python" "$here/thin_bundle.py" "$bundle" "$work/thin" --inputs "${INPUTS:-6}" "${options[@]}" >&2
"$python" "$here/thin_bundle.py" "$bundle" "$work/thin-arm64" --inputs "${INPUTS_ARM64:-4}" "${options[@]}" >&2

failed=0
check here "$work/thin" "$work/thin/manifest.json" || failed=1
for cpu in "${cpus[@]}"; do
  if [ "$cpu" = arm64 ]; then
    userland "$work/arm64"
    check arm64 /thin-arm64 "$work/thin-arm64/manifest.json" || failed=1
  else
    check "$cpu" "$work/thin" "$work/thin/manifest.json" || failed=1
  fi
done
[ $failed = 0 ] && say "all as it should be"
exit $failed
