"""How good a run is: every task on what was held out, beside baselines."""
