"""What a run is measured against: strong baselines on the same split and the same cases."""
