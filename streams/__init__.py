"""The Faust app: join, judge, aggregate."""
