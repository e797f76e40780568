"""Options of a source that gives two views of each image, for a self-supervised task."""

# types as objects, not as text: the command line looks text up where a subclass is defined
from dataclasses import dataclass

from tl.data.images.views import Views
from tl.tasks import Task, TwoViews, as_task


@dataclass(kw_only=True, eq=False, init=False)
class ViewOptions:
    """Options of self-supervised sources of images.

    Args:
        learns: A self-supervised task, such as `tl.tasks.NTXent`, in place of the tasks on labels:
            the source gives two views of each image, and no label reaches a loss.
        views: How these views are made, in place of `augment`; by default as SimCLR does.
    """

    learns: TwoViews | None = None
    views: Views | None = None

    @property
    def views_made(self) -> Views | None:
        """How two views of each image are made; ``None`` if the source gives one."""
        return None if self.learns is None else self.views or Views()

    def check_learns(self, *, on_pixels: bool) -> None:
        """Check that both options fit each other and the source.

        Args:
            on_pixels: Whether the source has tasks of its own, which lie on the pixels.

        Raises:
            ValueError: If they do not.
        """
        if self.learns is None:
            if self.views is not None:
                raise ValueError(
                    "`views` gives two views of each image, which only a self-supervised task "
                    "reads; set `learns` too, such as tl.tasks.NTXent."
                )
        elif on_pixels:
            raise ValueError(
                f"`learns` is not for {type(self).__name__}, whose `tasks` lie on the pixels; "
                "take a FolderDataModule of its images."
            )

    def learned_task(self, name: str, targets: list[str]) -> Task | None:
        """Return the self-supervised task under the name of the data set, if there is one.

        Args:
            name: The name.
            targets: Names of the source's labels, which are only counted.
        """
        if self.learns is None:
            return None
        target = targets[0] if len(targets) > 1 else None
        return as_task({**self.learns.record(), "name": name, "target": target})
