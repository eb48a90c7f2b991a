"""A source -> its encoder, loaded."""

from collections.abc import Callable

from embed.config import EmbedConfig
from embed.encoders.encoder import Encoder
from embed.encoders.esm2 import Esm2
from embed.encoders.igt5 import IgT5
from embed.encoders.kernel import find_kernel, must_build
from embed.encoders.loading import Arithmetic, choose_device
from embed.errors import EncoderError
from embed.fingerprint import Source


def open_encoder(source: Source, config: EmbedConfig, tell: Callable[[str], None] = lambda step: None) -> Encoder:
    """Load the encoder of a source in its precision on the config's device.

    Args:
        source: The encoder.
        config: Device, batching and pooling.
        tell: Told of a step that takes long: building kernels, once on a machine.

    Raises:
        EncoderError: The device or the checkpoint cannot do it, or there is no model: the vectors were imported, or
            are looked up.
    """
    if source.lookup is not None:
        raise EncoderError(
            f"{source.role.capitalize()} vectors of {source.family} are looked up in a table, without a model; name a "
            f"hub id or a folder as embed.{source.role} for what needs one."
        )
    if source.imported is not None:
        raise EncoderError(
            f"The {source.role} vectors of {source.name} were imported ({source.checkpoint.model}), so nothing here "
            f"can encode a {source.role} that is not among them; import those too, or name an encoder."
        )
    arithmetic = Arithmetic(
        precision=source.precision,
        threshold=config.threshold,
        device=choose_device(config.device),
        packed=config.batching == "packed",
    )
    if arithmetic.device == "cpu" and arithmetic.packed and must_build():
        tell("building kernels for this CPU")
        find_kernel()
    if source.family == "igt5":
        return IgT5(source.checkpoint, arithmetic, config.pooling)
    return Esm2(source.checkpoint, arithmetic)
