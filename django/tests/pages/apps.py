from django.apps import AppConfig
from django.db.models.signals import post_save


class PagesConfig(AppConfig):
    name = "pages"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from .models import Page
        from .tasks import index

        def enqueue(instance, **_):
            index.enqueue(instance.pk)

        post_save.connect(enqueue, sender=Page, weak=False)
