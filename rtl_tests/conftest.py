"""The same rule for missing tools as in tests/."""

from tests.conftest import pytest_runtest_setup as pytest_runtest_setup
