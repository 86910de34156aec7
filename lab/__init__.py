"""The storefront application with its rogue: real namespaces, real HTTP, real enforcement."""
