"""A source -> its encoder, loaded."""

from embed.config import EmbedConfig
from embed.encoders.encoder import Encoder
from embed.encoders.esm2 import Esm2
from embed.encoders.igt5 import IgT5
from embed.encoders.loading import Arithmetic, choose_device
from embed.fingerprint import Source


def open_encoder(source: Source, config: EmbedConfig) -> Encoder:
    """Load the encoder of a source in its precision on the config's device.

    Raises:
        EncoderError: The device or the checkpoint cannot do it.
    """
    arithmetic = Arithmetic(
        precision=source.precision,
        threshold=config.threshold,
        device=choose_device(config.device),
        packed=config.batching == "packed",
    )
    if source.family == "igt5":
        return IgT5(source.checkpoint, arithmetic, config.pooling)
    return Esm2(source.checkpoint, arithmetic)
