"""Who is calling: users and keys, how their secrets are kept, and how one that is presented is recognised."""
