"""What the build makes of CUCONV_CUDA_ARCHITECTURES, by CMake itself in script mode."""

import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[1] / "cmake" / "CudaModule.cmake"


@pytest.fixture
def architectures(tmp_path):
    """(exit code, what CMake says) for a list."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("there is no cmake on PATH: the build brought one of its own and left")

    def run(listed):
        script = tmp_path / "architectures.cmake"
        script.write_text(
            f'set(CUCONV_CUDA_ARCHITECTURES "{listed}")\ninclude("{MODULE}")\n'
            '_cuconv_architectures(found)\nmessage("found ${found}")\n'
        )
        done = subprocess.run([cmake, "-P", str(script)], capture_output=True, text=True)
        return done.returncode, " ".join(done.stderr.split())

    return run


@pytest.mark.parametrize("listed", ["90-real;90a-real", "80;90a-real;90", "90a;90"])
def test_code_for_90_and_for_90a_do_not_go_together(architectures, listed):
    failed, said = architectures(listed)
    assert failed
    assert f"CUCONV_CUDA_ARCHITECTURES is '{listed}': it has code both for 90 and for 90a" in said


# PTX of 90 is for GPUs after it, which have no use for that of 90a.
@pytest.mark.parametrize(
    "listed", ["80;90a-real", "90-real", "90a-real;90-virtual", "190;90a", "90a;100"]
)
def test_other_lists_stay_as_they_are(architectures, listed):
    assert architectures(listed) == (0, f"found {listed}")


def test_all_has_hopper_s_own(architectures):
    failed, said = architectures("all")
    assert not failed
    assert "90a-real" in said.split(" ")[1].split(";")
