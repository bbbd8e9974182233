"""Autoencoders over windows of readings: build, train, calibrate, save, load, score.

Knows arrays and tensors. Has never heard of Kafka, Prometheus or `streamer`.

    scaling      raw units -> model units, per stream
    architecture what a network is made of; which parts fit together
    backbones    pairs of encoder and decoder: lstm, gru, dense, conv
    regularisers what keeps a network from copying: denoising, sparse, variational ...
    autoencoder  windows -> rebuilt windows: a backbone and a regulariser joined
    training     fits the autoencoder, with early stopping on a held-out tail
    ranks        the processes that train one network together
    scores       rebuilt windows -> errors pooled over several time scales
    calibration  held-out errors -> the alert line of an alert budget
    detector     all of the above, ready to score
    bundle       one versioned directory that holds a detector
    registry     the directory of bundles and which of them is current
"""
