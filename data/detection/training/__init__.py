"""Train the networks of data/detection and measure them.
`python -m data.detection.training.train_networks FOLDER`"""
