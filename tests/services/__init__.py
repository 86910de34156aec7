"""The real services that tests run against.

Each module of this package brings one service: ``install() -> str`` fetches or builds it into the user's cache folder
(quick when it is there already) and returns a line that says what there is, and a pytest fixture starts it on loopback.
What can't be had is said by ``python -m tests.services``; the tests that need it are then skipped, or fail with
TIERFLOW_REQUIRE_SERVICES=1.
"""
