"""Autoencoders over windows of readings: build, train, calibrate, save, load, score.

Knows arrays and tensors. Has never heard of Kafka, Prometheus or `streamer`.

    scaling                raw units -> model units, per stream
    detector               everything below, ready to score, explain and embed

    network/               what a network is
      architecture         its shape in words and numbers; the names of all backbones and regularisers
      backbones            pairs of encoder and decoder: lstm, gru, dense, conv
      latents              how a bottleneck's output is read as a latent
      autoencoder          windows -> reconstruction and forecast

    scoring/               what runs in the daemon
      errors               reconstruction and forecast -> log errors pooled over several time scales
      baseline             tables of what is normal for each stream
      adaptation           slow drift, followed at run time
      imputation           windows with missing values
      evidence             log errors -> exceedance -> slow and fast channel -> score
      attribution          the share of each feature
      tail, alert_line     evidence of clean data and an alert policy -> the line at which the score is 1.0

    fitting/               what trains; nothing above imports it
      windows              which windows train and which are held out
      regularisers         what each does in training
      training             the loop, with early stopping
      distributed          processes that train one network together
      learning             readings -> trained network
      baseline             trained network -> tables and calibration evidence
      calibration          trained network -> detector
      fit                  all of it in one call

    store/                 one versioned directory per detector (`bundle`), and which is current (`registry`)
"""
