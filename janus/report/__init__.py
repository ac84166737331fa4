"""The demo's report: one HTML file that shows what was done, how long it took and what came of it."""
