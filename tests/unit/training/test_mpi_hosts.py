"""training.mpi_hosts: the network that Open MPI may use.  The rest is in tests/e2e."""

from __future__ import annotations

import pytest

from mms_handler.training import mpi_hosts


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        (["10.0.0.1", "10.0.0.2"], "10.0.0.0/30"),
        (["10.244.1.5", "10.244.2.7", "10.244.1.9"], "10.244.0.0/22"),
        (["10.0.0.1", "192.168.0.1"], "0.0.0.0/0"),
        (["10.0.0.1", "10.0.0.1"], "10.0.0.1/32"),
        (["127.0.0.2", "127.0.0.3"], "lo"),
    ],
)
def test_the_network_of_the_hosts(addresses, network):
    """The smallest one that has all addresses."""
    options = {"oob_tcp_if_include": network, "btl_tcp_if_include": network}
    assert mpi_hosts._networks(addresses) == options
