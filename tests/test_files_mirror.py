"""Files that Notion hosts, copied once and addressed for as long as they are shown."""

from pathlib import Path

from daemon.demo import blocks as b
from tests.support.gallery import HOUR, Gallery, a_gallery


def everything(gallery: Gallery) -> None:
    """One page that shows a file in every way there is."""
    gallery.add(
        "Everything",
        b.image(hosted="a photo.png"),
        b.toggle("More", [b.video(hosted="film.mp4"), b.audio(hosted="song.mp3")]),
        b.pdf(hosted="paper.pdf"),
        b.file(hosted="archive.zip"),
        b.image("https://elsewhere.example/picture.png"),
        icon=b.hosted_file("icon.png"),
        cover=b.hosted_file("cover.jpg"),
    )


async def test_every_hosted_file_gets_an_address_that_stays(tmp_path: Path) -> None:
    """Fails when a place is forgotten: then a signed address is in the store."""
    async with a_gallery(tmp_path, build=everything) as gallery:
        await gallery.publish()
        text = await gallery.all_texts()
        assert "X-Amz" not in text and "expiry_time" not in text
        page = await gallery.value("page:everything")
        print(page)
        gallery.clock.advance(HOUR)
        answer = await gallery.http.get(await gallery.image_url("everything"))
        print(answer.headers, await gallery.counts())
        assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
