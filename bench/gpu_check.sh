#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds for sm_80 and sm_90a, runs the tests, compute-sanitizer, then the timings.
#
#   bench/gpu_check.sh RESULTS [build|test|sanitize|time ...]
#
# Each phase writes its log to RESULTS as it goes and is bounded in time, so an interrupted run keeps what it has.
# Needs nvcc, cmake, ninja and a Python with numpy, ml_dtypes, pybind11, pytest, hypothesis, scipy and CuPy; nothing is
# downloaded. Where there is no git, give the commit as CUCONV_COMMIT.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$(mkdir -p "${1:?usage: bench/gpu_check.sh RESULTS [phase ...]}" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- build test sanitize time
export PYTHONPATH="$PWD/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=()

phase() { # phase NAME SECONDS COMMAND...: logged, bounded, never fatal
  local name=$1 limit=$2
  shift 2
  echo "=== $name"
  timeout "$limit" "$@" >"$results/$name.log" 2>&1
  local status=$?
  tail -n 5 "$results/$name.log"
  [ $status = 0 ] || { failed+=("$name ($status)"); echo "$name: exit status $status"; }
}

{
  echo "date: $(date -u +%Y-%m-%dT%H:%MZ)"
  echo "commit: ${CUCONV_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | sed 's/^/device: /'
  nvcc --version | tail -n 1 | sed 's/^/nvcc: /'
  python3 --version
  python3 -c 'import cupy, numpy; print("cupy:", cupy.__version__, "numpy:", numpy.__version__)'
} | tee "$results/environment.txt"

for what in "$@"; do
  case $what in
    build)
      phase configure 60 cmake -S . -B build/gpu -G Ninja -DSKBUILD_PROJECT_VERSION=0.1.0 -DCUCONV_CUDA=ON \
        "-DCUCONV_CUDA_ARCHITECTURES=80-real;90a-real" "-Dpybind11_DIR=$(python3 -m pybind11 --cmakedir)" \
        "-DPython_EXECUTABLE=$(command -v python3)"
      phase build 400 cmake --build build/gpu
      phase install 30 cmake --install build/gpu --prefix python
      phase compiled_code 60 python3 tests/compiled_code.py
      ;;
    test)
      phase check 120 python3 -m cuconv check --backend cuda
      phase tests 500 python3 -m pytest -q -k cuda tests
      ;;
    sanitize)
      for tool in memcheck racecheck initcheck synccheck; do
        phase "$tool" 150 compute-sanitizer --tool "$tool" --error-exitcode 9 \
          python3 -m cuconv check --backend cuda --quick
      done
      ;;
    time)
      phase time_direct 180 python3 bench/time_direct.py "$results/time_direct.jsonl"
      phase time_pool 180 python3 bench/time_pool.py "$results/time_pool.jsonl"
      phase time_gemm 390 python3 bench/time_gemm.py --seconds 330 --output "$results/time_gemm.json" --resume
      ;;
    *)
      echo "no phase '$what': build, test, sanitize, time" >&2
      exit 2
      ;;
  esac
done

if [ ${#failed[@]} = 0 ]; then echo "all phases passed"; else printf 'failed: %s\n' "${failed[@]}" && exit 1; fi
