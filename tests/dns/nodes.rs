//! Nodes that find their first contact by DNS.
