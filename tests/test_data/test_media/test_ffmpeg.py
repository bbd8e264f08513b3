"""ffmpeg opens only the files that it is given. The first tests need no ffmpeg."""
import json
import shutil
import socket
import subprocess
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from data.media import ffmpeg, video
from data.media.ffmpeg import GUARD
from data.media.probe import VideoInfo, probe, read_video_label
from data.media.video import FrameReader, VideoError, VideoWriter

STREAMS = [{"index": 0, "codec_type": "video", "codec_name": "h264", "width": 8, "height": 8, "avg_frame_rate": "25/1"},
           {"index": 1, "codec_type": "audio", "codec_name": "aac"}]


@pytest.fixture
def commands(monkeypatch):
    """List of (command, options) of the programs that would be started."""
    found = []

    def run(command, **options):
        found.append((command, options))
        text = "V libx264" if "-encoders" in command else json.dumps({"streams": STREAMS, "format": {}, "packets": []})
        return SimpleNamespace(returncode=0, stdout=text.encode(), stderr=b"")

    def start(command, **options):
        found.append((command, options))
        raise VideoError("that is enough")

    monkeypatch.setattr(ffmpeg.shutil, "which", lambda name: f"/programs/{name}")
    monkeypatch.setattr(ffmpeg.subprocess, "run", run)
    monkeypatch.setattr(ffmpeg.subprocess, "Popen", start)
    video._encoders.cache_clear()  # cached for the fake ffmpeg
    yield found
    video._encoders.cache_clear()


def test_every_input_is_restricted_and_no_shell_is_used(commands, tmp_path):
    clip = tmp_path / "-i $(echo run); 'a'.mp4"
    clip.write_bytes(b"x")
    read_video_label(clip)
    info = probe(clip)
    with pytest.raises(VideoError, match="enough"):
        FrameReader(info)
    with pytest.raises(VideoError, match="enough"):
        with VideoWriter(tmp_path / "out.mp4", VideoInfo(8, 8, Fraction(25), path=clip, audio=((1, "aac"),))):
            pass
    assert len(commands) >= 5
    for command, options in commands:
        assert isinstance(command, list) and all(isinstance(word, str) for word in command) and "shell" not in options
        assert command[0] in ("/programs/ffmpeg", "/programs/ffprobe")
        places = [k for k, word in enumerate(command) if word.startswith(("file:", "pipe:", "-i "))]
        inputs = [k for k in places if command[k - 1] == "-i" or command[0].endswith("ffprobe")]
        assert all(command[k] == f"file:{clip}" or command[k].startswith(("file:" + str(tmp_path), "pipe:"))
                   for k in places)
        before = 0
        for k in inputs:
            if command[k] != "pipe:0":  # our own frames
                assert " ".join(GUARD) in " ".join(command[before:k])
            before = k
    readers = [command for command, _ in commands if f"file:{clip}" in command]
    assert len(readers) >= 4


def test_allowed_protocols_and_formats():
    options = dict(zip(GUARD[::2], GUARD[1::2]))
    assert options.keys() == {"-protocol_whitelist", "-format_whitelist"}
    assert set(options["-protocol_whitelist"].split(",")) == {"file", "pipe"}
    lists = {"hls", "applehttp", "concat", "ffconcat", "dash", "sdp", "rtsp", "rtp", "image2", "image2pipe", "concatf",
             "imf", "webm_dash_manifest",
             "lavfi", "tee", "subtitles", "mpl2", "vapoursynth", "avisynth", "libopenmpt", "redir", "asx", "xspf"}
    assert not lists & set(options["-format_whitelist"].split(","))


def playlists(address):
    """Return {file name: content} of playlists that refer to an address."""
    return {"hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
            "hls.m3u8.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
                           f"#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
            "master.mp4": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{address}\n",
            "list.mkv": f"ffconcat version 1.0\nfile '{address}'\n", "plain.avi": f"file '{address}'\n",
            "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
                        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
                        f'<BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>',
            "session.mov": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                           "m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "link.wmv": f'<asx version="3.0"><entry><ref href="{address}"/></entry></asx>',
            "reference.asf": f"[Reference]\nRef1={address}\n"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("ffmpeg is not installed")
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with VideoWriter(path, VideoInfo(32, 24, Fraction(10))) as writer:
        for k in range(4):
            writer.write(np.full((24, 32, 3), 60 * k, np.uint8))
    return path


@pytest.mark.parametrize("name", playlists(""))
def test_playlists_are_not_opened(clip, tmp_path, name):
    """They refer to a video file or to a local server, which must get no connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for address in (clip.as_uri(), str(clip), f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"):
            path = tmp_path / name
            path.write_text(playlists(address)[name])
            for read in (read_video_label, probe,
                         lambda path: list(FrameReader(VideoInfo(32, 24, Fraction(10), path=path)))):
                with pytest.raises(VideoError, match=name):
                    read(path)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_playlist_is_read_without_the_restriction(clip, tmp_path):
    """This shows that the test above would detect it."""
    path = tmp_path / "list.mkv"
    path.write_text(playlists(clip)["list.mkv"])
    command = ["ffprobe", "-v", "error", "-safe", "0", "-show_streams", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(done.stdout)["streams"][0]["width"] == 32
