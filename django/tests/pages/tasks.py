from site_app.tasks import task

from .models import Entry, Page


@task()
def index(page_id):
    """Makes the page found by the title that it has."""
    page = Page.objects.get(pk=page_id)
    Entry.objects.update_or_create(page=page, defaults={"title": page.title})
