"""Ways by which a line says that a part is there, and hears what became of it. HTTP is the page's."""

__all__: list[str] = []
