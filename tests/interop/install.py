#!/usr/bin/env python3
"""Installs the peers of the interoperability tests into the user's cache directory, unless they are there."""

import sys

sys.dont_write_bytecode = True  # leaves nothing in the tree

import peers

sys.exit(peers.main())
