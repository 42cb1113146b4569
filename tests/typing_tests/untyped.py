"""Programs without annotations: nothing of theirs is an error."""
# pyright: basic

import trackside


class Losses:
    def on_metrics(self, sample):
        print(sample.metrics)


def show(sample):
    print(sample)


def train(config):
    with trackside.start(config=config, sinks=[Losses(), show], destinations=config["destinations"]) as run:
        trackside.bus.attach(lambda sample: print(sample.step))
        run.flush()


trackside.bus.attach(Losses()).on_metrics(1)
trackside.bus.attach(show)
train({"destinations": []})
