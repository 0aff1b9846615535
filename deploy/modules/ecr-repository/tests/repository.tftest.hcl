# With a provider that only pretends.

mock_provider "aws" {
  mock_resource "aws_ecr_repository" {
    defaults = {
      arn            = "arn:aws:ecr:us-west-2:123456789012:repository/app-template-dev"
      registry_id    = "123456789012"
      repository_url = "123456789012.dkr.ecr.us-west-2.amazonaws.com/app-template-dev"
    }
  }
}

variables {
  region          = "us-west-2"
  repository_name = "app-template-dev"
}

run "defaults" {
  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "MUTABLE"
    error_message = "tags cannot move"
  }

  assert {
    condition     = aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "pushes are not scanned"
  }

  assert {
    condition     = aws_ecr_repository.this.encryption_configuration[0].encryption_type == "AES256"
    error_message = "the encryption differs"
  }

  assert {
    condition     = [for rule in jsondecode(aws_ecr_lifecycle_policy.this.policy).rules : rule.selection.countNumber] == [10, 7]
    error_message = "images are kept for longer, or removed earlier"
  }

  assert {
    condition = [output.repository_url, output.repository_arn, output.repository_name, output.registry_id] == [
      "123456789012.dkr.ecr.us-west-2.amazonaws.com/app-template-dev",
      "arn:aws:ecr:us-west-2:123456789012:repository/app-template-dev",
      "app-template-dev",
      "123456789012",
    ]
    error_message = "an output is missing"
  }
}

run "every_variable" {
  variables {
    image_tag_mutability    = "IMMUTABLE"
    scan_on_push            = false
    image_retention_count   = 3
    untagged_retention_days = 1
    kms_key_arn             = "arn:aws:kms:us-west-2:123456789012:key/x"
    tags                    = { Team = "a" }
  }

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && !aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push && aws_ecr_repository.this.tags == tomap({ Team = "a" })
    error_message = "a variable has no effect"
  }

  assert {
    condition     = aws_ecr_repository.this.encryption_configuration[0].encryption_type == "KMS" && aws_ecr_repository.this.encryption_configuration[0].kms_key == "arn:aws:kms:us-west-2:123456789012:key/x"
    error_message = "the key is not used"
  }

  assert {
    condition     = [for rule in jsondecode(aws_ecr_lifecycle_policy.this.policy).rules : rule.selection.countNumber] == [3, 1]
    error_message = "the policy keeps other numbers"
  }
}

run "wrong_values" {
  command = plan

  variables {
    repository_name         = "App"
    image_tag_mutability    = "mutable"
    image_retention_count   = 0
    untagged_retention_days = 0.5
  }

  expect_failures = [
    var.repository_name,
    var.image_tag_mutability,
    var.image_retention_count,
    var.untagged_retention_days,
  ]
}
