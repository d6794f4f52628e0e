"""Does the runs of every experiment that are missing. `make experiment`

python experiments/run.py [minutes]
"""

import alike_batches
import deep_network
import harness
import mean_far_from_zero
import padded_sequences
import small_network
import train_here_use_there

EXPERIMENTS = (
    alike_batches,
    padded_sequences,
    mean_far_from_zero,
    train_here_use_there,
    small_network,
    deep_network,
)

if __name__ == "__main__":
    harness.write_versions("experiments_versions.csv")
    for experiment in EXPERIMENTS:
        experiment.main()
