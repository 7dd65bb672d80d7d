"""The pages: a blueprint for each family. They read requests and use the packages below."""
