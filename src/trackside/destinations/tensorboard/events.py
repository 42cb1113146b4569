"""TensorBoard's events as the bytes of their records. The one file that imports ``tensorboard``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

_RGB = 3
"""A colour space of ``Summary.Image``. The file says what it really has."""


class Events:
    """Each method gives one framed record. ``seconds`` are since the epoch."""

    def version(self, seconds: float, text: str) -> bytes:
        """The event that begins a file."""
        return _record(event_pb2.Event(wall_time=seconds, file_version=text))

    def scalars(self, seconds: float, step: int, values: Mapping[str, float]) -> bytes:
        """Metrics of one step."""
        summary = summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        return _record(event_pb2.Event(wall_time=seconds, step=step, summary=summary))

    def picture(self, seconds: float, step: int, tag: str, data: bytes, size: tuple[int, int]) -> bytes:
        """A picture, encoded as a browser takes it. ``size``: width and height, zeros if not known."""
        image = summary_pb2.Summary.Image(
            width=size[0], height=size[1], colorspace=_RGB, encoded_image_string=data
        )
        value = summary_pb2.Summary.Value(tag=tag, image=image)
        return _record(_event(seconds, step, value))

    def histogram(self, seconds: float, step: int, tag: str, fields: Mapping[str, Any]) -> bytes:
        """A distribution. ``fields`` are those of ``HistogramProto``."""
        histogram = summary_pb2.HistogramProto(**fields)
        return _record(_event(seconds, step, summary_pb2.Summary.Value(tag=tag, histo=histogram)))

    def sound(self, seconds: float, step: int, tag: str, fields: Mapping[str, Any]) -> bytes:
        """A sound. ``fields`` are those of ``Summary.Audio``."""
        value = summary_pb2.Summary.Value(tag=tag, audio=summary_pb2.Summary.Audio(**fields))
        return _record(_event(seconds, step, value))

    def text(self, seconds: float, tag: str, markdown: str, step: int = 0) -> bytes:
        """Something to read in the Text tab."""
        tensor = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING,
            string_val=[markdown.encode("utf-8", "backslashreplace")],
            tensor_shape=tensor_shape_pb2.TensorShapeProto(),
        )
        metadata = text_metadata.create_summary_metadata(display_name=None, description=None)
        value = summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
        return _record(_event(seconds, step, value))

    def hparams(self, seconds: float, values: Mapping[str, bool | float | str], trial: str) -> bytes:
        """The hyperparameters of a run."""
        summary = hparams_pb(dict(values), trial_id=trial, start_time_secs=seconds)
        return _record(event_pb2.Event(wall_time=seconds, summary=summary))

    def session_end(self, seconds: float, *, succeeded: bool) -> bytes:
        """How a run with hyperparameters ended."""
        status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=seconds)
        value = summary_pb2.Summary.Value(
            tag=hparams_metadata.SESSION_END_INFO_TAG,
            metadata=hparams_metadata.create_summary_metadata(
                plugin_data_pb2.HParamsPluginData(session_end_info=end)
            ),
            tensor=hparams_metadata.NULL_TENSOR,
        )
        return _record(event_pb2.Event(wall_time=seconds, summary=summary_pb2.Summary(value=[value])))


def _event(seconds: float, step: int, value: Any) -> Any:
    return event_pb2.Event(wall_time=seconds, step=step, summary=summary_pb2.Summary(value=[value]))


def _record(event: Any) -> bytes:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()
