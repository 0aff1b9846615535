# One ECR repository that keeps its last versions and removes what has no tag.

provider "aws" {
  region = var.region
}

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_51:Whether tags may move is the caller's choice, image_tag_mutability.
  #checkov:skip=CKV_AWS_136:AES256 is the documented default; kms_key_arn names a key instead.
  #checkov:skip=CKV_AWS_163:Scanning is the caller's choice, scan_on_push, and on by default.
  name                 = var.repository_name
  image_tag_mutability = var.image_tag_mutability
  tags                 = var.tags

  image_scanning_configuration {
    scan_on_push = var.scan_on_push
  }

  encryption_configuration {
    encryption_type = var.kms_key_arn == null ? "AES256" : "KMS"
    kms_key         = var.kms_key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Keep the last ${var.image_retention_count} versions"
        selection = {
          tagStatus     = "tagged"
          tagPrefixList = ["v"]
          countType     = "imageCountMoreThan"
          countNumber   = var.image_retention_count
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "Remove images without a tag after ${var.untagged_retention_days} days"
        selection = {
          tagStatus   = "untagged"
          countType   = "sinceImagePushed"
          countUnit   = "days"
          countNumber = var.untagged_retention_days
        }
        action = { type = "expire" }
      },
    ]
  })
}
