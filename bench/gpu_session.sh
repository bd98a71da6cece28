#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: everything that only a GPU can tell, in three stages of ten minutes each.
#
#   bench/gpu_session.sh RESULTS [STAGE ...]      1: build for sm_80 and sm_90a, self-test   2: tests, compute-sanitizer
#                                                 3: benchmarks                              (default: 1 2 3)
#
# A call begins no phase after SESSION_SECONDS (600) and lets none run past them. Call it again, with the same RESULTS, and
# it goes on: what passed is not done again (RESULTS/NAME.passed), nor what failed (NAME.failed; delete it to try again).
# Every phase writes its log as it goes, so a call that is cut short keeps what it has. Records of another commit are not
# mixed in. Needs nvcc, cmake, ninja and a Python with numpy, ml_dtypes, pybind11, pytest, hypothesis, scipy, click, rich,
# matplotlib, OpenCV and CuPy; PyTorch and others are timed beside where they are installed. Nothing is downloaded. Where
# there is no git, give the commit as CUCONV_COMMIT.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$(mkdir -p "${1:?usage: bench/gpu_session.sh RESULTS [1|2|3 ...]}" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- 1 2 3
python=${PYTHON:-python3}
budget=${SESSION_SECONDS:-600}
export PYTHONPATH="$PWD/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
CUCONV_COMMIT=${CUCONV_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
export CUCONV_COMMIT

if [ -f "$results/commit.txt" ] && [ "$(cat "$results/commit.txt")" != "$CUCONV_COMMIT" ]; then
  echo "$results is of commit $(cat "$results/commit.txt"), this is $CUCONV_COMMIT: name another folder" >&2
  exit 2
fi
echo "$CUCONV_COMMIT" >"$results/commit.txt"
{
  echo "date: $(date -u +%Y-%m-%dT%H:%MZ)"
  echo "commit: $CUCONV_COMMIT"
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,power.limit --format=csv,noheader | sed 's/^/device: /'
  nvcc --version | tail -n 1 | sed 's/^/nvcc: /'
  "$python" --version
  "$python" -c 'import cupy, numpy; print("cupy:", cupy.__version__, "numpy:", numpy.__version__)'
} 2>&1 | tee -a "$results/environment.txt"

out_of_time=
phase() { # phase NAME SECONDS COMMAND...: logged, bounded, never fatal
  local name=$1 limit=$2 left=$((budget - SECONDS)) status
  shift 2
  [ -f "$results/$name.passed" ] || [ -f "$results/$name.failed" ] && return
  if [ "$left" -lt 10 ]; then
    out_of_time=yes
    return
  fi
  echo "=== $name (at $SECONDS s)"
  timeout --signal=INT --kill-after=15 "$((limit < left ? limit : left))" "$@" >>"$results/$name.log" 2>&1
  status=$?
  tail -n 5 "$results/$name.log"
  if [ $status = 0 ]; then
    touch "$results/$name.passed"
  elif [ "$limit" -ge "$left" ] && { [ $status = 124 ] || [ $status = 130 ] || [ $status = 137 ]; }; then
    out_of_time=yes # cut short by the call's end, not by its own limit
  else
    echo "$name: exit status $status" | tee "$results/$name.failed"
  fi
}

benchmark() { # benchmark NAME MINUTES OPTIONS...: a record that goes on where it was, so much longer in each call
  local name=$1 minutes=$2 file="$results/$1.json"
  shift 2
  if [ -f "$file" ]; then set -- --resume "$file"; else set -- --device cuda --out "$file" "$@"; fi
  phase "$name" "$budget" "$python" bench/run.py run --minutes "$minutes" "$@"
  if [ -f "$file" ] && ! grep -q '^ "complete": true' "$file"; then # the next call measures the rest
    # Status 1: a row was wrong, which the record keeps and the last call tells. Others, as of a CUDA error, would come again.
    grep -qsv 'exit status 1$' "$results/$name.failed" && return
    rm -f "$results/$name.passed" "$results/$name.failed"
    out_of_time=yes
  fi
}

for stage in "$@"; do
  case $stage in
    1)
      phase configure 60 cmake -S . -B build/gpu -G Ninja -DSKBUILD_PROJECT_VERSION=0.1.0 -DCUCONV_CUDA=ON \
        "-DCUCONV_CUDA_ARCHITECTURES=80-real;90a-real" "-Dpybind11_DIR=$("$python" -m pybind11 --cmakedir)" \
        "-DPython_EXECUTABLE=$(command -v "$python")"
      phase build 560 cmake --build build/gpu
      phase install 30 cmake --install build/gpu --prefix python
      phase compiled_code 60 "$python" tests/compiled_code.py
      phase check_quick 120 "$python" -m cuconv check --backend cuda --quick
      ;;
    2)
      phase check 180 "$python" -m cuconv check --backend cuda
      for tool in memcheck racecheck initcheck synccheck; do
        phase "sanitizer_$tool" 150 compute-sanitizer --tool "$tool" --error-exitcode 9 \
          "$python" -m cuconv check --backend cuda --quick
      done
      for file in tests/test_*.py; do # a file is a phase, so that a call may end between two; 5 means no test in it
        name=$(basename "$file" .py)
        phase "$name" 300 bash -c '"$1" -m pytest -q -k cuda "$2" || [ $? = 5 ]' bash "$python" "$file"
      done
      ;;
    3)
      layouts=(--layout NHWC --layout NCHW)
      directions=(--direction forward --direction input_grad --direction weight_grad)
      benchmark first 1.5 --seconds 0.1 --group mixed --group inception --group pooling --dtype float16 --dtype float32
      benchmark forward 2.5 --seconds 0.1 "${layouts[@]}" --dtype float16 --dtype float32 --dtype bfloat16 \
        --group resnet50 --group vgg --group googlenet
      benchmark special 1 --seconds 0.1 --group depthwise --group images --group activations
      benchmark gradients 2 --seconds 0.1 "${directions[@]}" --layout NHWC --dtype float16 --dtype float32 \
        --group resnet50 --group vgg
      benchmark families 2 --seconds 0.1 --group resnet50 --group deepbench --layout NHWC --dtype float16 \
        --dtype tf32 --dtype tf32x3 --algo auto --algo implicit_gemm --algo im2col --algo direct
      options=(--device cuda --dtype float16 --layout NHWC --seconds 0.1 --out "$results/sweep.json")
      [ -f "$results/sweep.json" ] && options=(--resume "$results/sweep.json")
      phase sweep 300 "$python" bench/run.py sweep "${options[@]}"
      ;;
    *)
      echo "no stage '$stage': 1, 2, 3" >&2
      exit 2
      ;;
  esac
done

records=()
for file in "$results"/*.json; do [ -f "$file" ] && records+=("$file"); done
if [ ${#records[@]} -gt 0 ]; then
  "$python" bench/run.py report "${records[@]}" --out "$results/report.html" --pictures "$results/pictures"
fi
failed=("$results"/*.failed)
[ -e "${failed[0]}" ] && cat "${failed[@]}" && exit 1
if [ -n "$out_of_time" ]; then
  echo "the time is over; the same command goes on"
  exit 75
fi
echo "all phases of stage $* passed"
