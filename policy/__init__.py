"""Calico's policy language: selectors, tiers, rules; compile, judge, explain. Pure, no I/O."""
