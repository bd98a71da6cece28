import pytest

from emulation.device import WHY_MISSING, Device, load


def device_of(flavour: str) -> Device:
    module = load(flavour)
    if module is None:
        pytest.skip(WHY_MISSING)
    return Device(module)


@pytest.fixture
def race() -> Device:
    return device_of("race")


@pytest.fixture
def plain() -> Device:
    return device_of("plain")


@pytest.fixture(params=["plain", "race"])
def device(request: pytest.FixtureRequest) -> Device:
    return device_of(request.param)
